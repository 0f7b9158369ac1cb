"""Looking at processes from outside."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

GONE_SECONDS = 20


def children(pid: int) -> set[int]:
    """Tell which processes a process has started; none if it is gone."""
    with suppress(OSError):
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return set()


def runs(pid: int, module: str) -> bool:
    """Tell whether a process was started to run a module."""
    with suppress(OSError):
        return module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def wait_until_gone(pids: Iterable[int]) -> None:
    """Wait for the end of processes, which nobody may leave as zombies either."""
    left = set(pids)
    deadline = time.monotonic() + GONE_SECONDS
    while left := {pid for pid in left if Path(f"/proc/{pid}").exists()}:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)
