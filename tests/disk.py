"""A disk that is soon full, for tests of what happens then."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of this size on a new folder; skip the test where that is forbidden."""
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder)
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount).returncode:
        pytest.skip("mounting a file system needs root's capabilities")
    try:
        yield folder
    finally:
        subprocess.run(("umount", "--lazy", folder), check=True)


def fill(folder: Path) -> Path:
    """Fill the disk with one file to the last byte; removing it makes room again."""
    filler = folder / "filler"
    with filler.open("wb", 0) as file:
        for size in (4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return filler
