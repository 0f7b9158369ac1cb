"""Notices that an open file lost its name, for a tenth of what looking the name up costs."""

import fcntl
import os
import sys
import termios
import time
from pathlib import Path
from typing import Final

from inotify_simple import INotify, flags

_OF_FILE: Final = flags.MOVE_SELF | flags.ATTRIB  # removing it changes how many names it has
_OF_FOLDER: Final = flags.MOVE_SELF
_NONE: Final = bytes(4)
# What the kernel does not note: that a folder further up was moved, or mounted over.
_LOOK_SECONDS: Final = 1.0


class WatchedName:
    """The name under which a file was opened, and whether the file still has it.

    The kernel has a note ready before the call that renames or removes returns (inotify(7)).
    Where it grants none, as each user may have only so many, the name is looked up each time.
    """

    def __init__(self, fd: int, path: str) -> None:
        opened = os.fstat(fd)
        self._path = path
        self._inode = (opened.st_dev, opened.st_ino)
        self._looked = float("-inf")
        self._waiting_bytes = bytearray(_NONE)
        self._notes = -1
        try:
            # As the file itself: closed by who opened it, whatever becomes of the objects.
            notes = INotify(nonblocking=True, closefd=False)
            self._notes = notes.fileno()
            notes.add_watch(f"/proc/self/fd/{fd}", _OF_FILE)
            notes.add_watch(Path(path).parent, _OF_FOLDER)
        except OSError:
            self.close()

    def is_kept(self) -> bool:
        """Tell whether the file has the name, as far as the kernel noted."""
        now = time.monotonic()
        if self._notes >= 0 and now < self._looked + _LOOK_SECONDS:
            fcntl.ioctl(self._notes, termios.FIONREAD, self._waiting_bytes)
            if self._waiting_bytes == _NONE:
                return True
            os.read(self._notes, int.from_bytes(self._waiting_bytes, sys.byteorder))
        self._looked = now
        return self.look_up()

    def look_up(self) -> bool:
        """Tell whether the file has the name, from the folder itself."""
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == self._inode

    def close(self) -> None:
        """Watch no longer."""
        if self._notes >= 0:
            os.close(self._notes)
            self._notes = -1
