"""What gets installed: one version of each package, and only the bytes that were locked."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"([\w.-]+)(?:\[\w+\])?==(\S+)")


def pins(text: str) -> dict[str, str]:
    """List the pinned packages by the name that an index knows them by."""
    found = [PIN.match(line) for line in text.splitlines() if line[:1].isalnum()]
    assert all(found), "a line that pins nothing"
    return {re.sub(r"[-_.]+", "-", pin[1]).lower(): pin[2] for pin in found if pin}


def test_the_lock_has_what_is_required_and_nothing_else() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    # To mend it: make lock
    assert pins(lock) == pins((ROOT / "requirements.txt").read_text())


def test_every_locked_package_has_hashes() -> None:
    lines = (ROOT / "requirements.lock").read_text().replace("\\\n", "").splitlines()
    for line in lines:
        assert line.startswith("#") or re.search(r" --hash=sha256:[0-9a-f]{64}", line), line[:80]
