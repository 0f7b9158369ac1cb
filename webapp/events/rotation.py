"""One log file that several processes share, rotate and never lose a line of.

Every line is in one ``write(2)`` to an ``O_APPEND`` descriptor under a shared ``flock``, alone or
with lines that are ready at the same time. Renaming takes the exclusive lock, and every writer
checks under its lock that its descriptor still is the file of that name. So a closed segment can
never be written to, and keeps its name for life.
"""

import errno
import fcntl
import itertools
import logging
import os
import stat
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from webapp.events import streams
from webapp.events.formatter import JsonFormatter
from webapp.events.names import WatchedName
from webapp.events.schema import ACTIVE_NAME, FILE_MODE, FOLDER_MODE

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_NEWLINE: Final = b"\n"
# Each with the level of its record.
Lines = Sequence[tuple[bytes, str]]
# How far a file may outgrow its segment, while writers are busy, before that counts as a failure.
_LATE_BYTES: Final = 16 << 20
# How often the file may vanish while it is being opened, before that counts as a failure.
_OPEN_TRIES: Final = 100


class SharedRotatingHandler(logging.Handler):
    """Append records to ``LOG_DIR/app.log``, together with any number of other processes.

    Parameters
    ----------
    log_dir : folder of the log; made when it is missing
    segment_bytes : size at which the file is renamed to ``app-<utc>-<pid>.jsonl``
    on_written, on_dropped : called after each line written, or lost to the file, with its level
    on_rotated : called after this process renamed the file
    """

    def __init__(
        self,
        log_dir: Path,
        segment_bytes: int,
        *,
        on_written: Callable[[str], None] = lambda level: None,
        on_dropped: Callable[[str], None] = lambda level: None,
        on_rotated: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._log_dir = log_dir
        self._path = str(log_dir / ACTIVE_NAME)
        self._segment_bytes = segment_bytes
        self._on_written, self._on_dropped, self._on_rotated = on_written, on_dropped, on_rotated
        self._json = JsonFormatter()
        self._mutex = threading.RLock()
        self._waiting: deque[Lines] = deque()
        self._writing = False
        self._fd = -1
        self._name: WatchedName | None = None
        self._end = 0  # where our last line ended, if nobody wrote since
        self._seq = _counter(self._path)
        _handlers.add(self)

    def createLock(self) -> None:  # noqa: N802 - the name in logging
        """Make no lock: records are formatted in parallel, only the write is serialised."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; never raise into the program that logs."""
        self.emit_together((record,))

    def emit_together(self, records: Sequence[logging.LogRecord]) -> None:
        """Write records that are ready together, as lines that follow each other."""
        lines = []
        for record in records:  # a comprehension is a call
            lines.append((self._json.line(record), record.levelname))
        late: list[tuple[Lines, bool, bool]] = []
        with self._mutex:
            if self._writing:
                # This very thread is in the middle of a write, and a finaliser or a signal
                # handler logs: the line is written when the one before it is.
                self._waiting.append(lines)
                return
            self._writing = True
            try:
                kept, rotated = self._write(lines)
                while self._waiting:
                    another = self._waiting.popleft()
                    late.append((another, *self._write(another)))
            finally:
                self._writing = False
        try:
            self._tell(lines, kept, rotated)
            for written in late:
                self._tell(*written)
        except Exception:  # a callback's failure is not the caller's
            streams.write_if_room(streams.STDERR, traceback.format_exc().encode())

    def _tell(self, lines: Lines, kept: bool, rotated: bool) -> None:
        tell = self._on_written if kept else self._on_dropped
        for _, level in lines:
            tell(level)
        if rotated:
            self._on_rotated()

    def check(self) -> str | None:
        """Tell why the log cannot be written now, or None if it can."""
        with self._mutex:
            try:
                size = self._lock_current()
                fcntl.flock(self._fd, fcntl.LOCK_UN)
                room = os.statvfs(self._log_dir).f_bavail
            except OSError as error:
                self._close()
                return error.strerror or errno.errorcode.get(error.errno or 0, "error")
        if not room:
            return os.strerror(errno.ENOSPC)
        late = size > self._segment_bytes + _LATE_BYTES
        return "the file cannot be renamed" if late else None

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            self._close()
        super().close()

    def after_fork(self) -> None:
        """Give a forked child a descriptor, a mutex and numbers of its own.

        A child that kept its parent's descriptor would share the parent's lock as well.
        """
        self._mutex = threading.RLock()
        self._waiting.clear()
        self._writing = False
        self._seq = _counter(self._path)
        self._close()

    def _write(self, lines: Lines) -> tuple[bool, bool]:
        """Write lines; tell whether they are in the file, and whether that rotated."""
        # Numbered here, so that the numbers in the file are in order and have no gap unless a
        # line was lost.
        data = b""
        for line, _ in lines:
            data += line + b',"seq":%d}\n' % next(self._seq)
        try:
            size = self._append(data)
        except OSError:
            self._close()
            streams.write_if_room(streams.STDERR, data)  # said there instead; readiness says why
            return False, False
        return True, size >= self._segment_bytes and self._rotate()

    def _append(self, data: bytes) -> int:
        """Put lines on lines of their own; return the size of the file."""
        size = self._lock_current()
        try:
            if size != self._end and size and self._ends_torn(size):
                data = _NEWLINE + data
            self._put(data)
            begin = self._end - len(data)
            if begin != size and data[:1] != _NEWLINE and self._follows_torn(begin):
                # Since that look, another writer began a line and was killed or found the disk
                # full. What was just written hangs on its torn line, so it is written again.
                self._put(_NEWLINE + data)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        return self._end

    def _ends_torn(self, size: int) -> bool:
        # A longer file by now means that its last line is just being written. Where even that
        # look comes too early, an empty line is written, which does no harm.
        torn = os.pread(self._fd, 1, size - 1) != _NEWLINE
        return torn and os.fstat(self._fd).st_size == size

    def _follows_torn(self, begin: int) -> bool:
        return os.pread(self._fd, 1, begin - 1) not in (_NEWLINE, b"")

    def _put(self, data: bytes) -> None:
        written = os.write(self._fd, data)
        self._end = os.lseek(self._fd, 0, os.SEEK_CUR)
        if written != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _lock_current(self) -> int:
        """Hold the shared lock on the file that has the name now; return its size."""
        for _ in range(_OPEN_TRIES):
            name = self._name or self._open()
            fcntl.flock(self._fd, fcntl.LOCK_SH)
            if name.is_kept():
                return os.lseek(self._fd, 0, os.SEEK_END)
            self._close()
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def _open(self) -> WatchedName:
        try:
            fd = os.open(self._path, _FLAGS, FILE_MODE)
        except FileNotFoundError:
            os.makedirs(self._log_dir, FOLDER_MODE, exist_ok=True)
            fd = os.open(self._path, _FLAGS, FILE_MODE)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file")
        self._fd, self._name, self._end = fd, WatchedName(fd, self._path), 0
        return self._name

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)  # this gives up the lock as well
            self._fd = -1
        if self._name is not None:
            self._name.close()
            self._name = None

    def _rotate(self) -> bool:
        """Rename the full file, unless another process does or a writer is busy.

        It does not wait: a writer that was stopped in the middle would stop every process. The
        file is still too long at the next line, which tries again.
        """
        renamed = False
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._name is not None and self._name.look_up():
                now = datetime.fromtimestamp(time.time(), UTC)
                name = f"app-{now:%Y%m%dT%H%M%S.%f}Z-{os.getpid()}.jsonl"
                os.rename(self._path, self._log_dir / name)
                renamed = True
        except BlockingIOError:
            return False
        except OSError:
            # Moved away meanwhile, or the folder is read-only. No line is lost by that, and
            # readiness tells of a file that stays too long.
            pass
        self._close()
        return renamed


_handlers: weakref.WeakSet[SharedRotatingHandler] = weakref.WeakSet()
# By file and not by handler: a process that configures its logging again goes on counting.
_counters: dict[str, "itertools.count[int]"] = {}


def _counter(path: str) -> "itertools.count[int]":
    return _counters.setdefault(path, itertools.count(1))


def _reopen_after_fork() -> None:
    _counters.clear()
    for handler in list(_handlers):
        handler.after_fork()


os.register_at_fork(after_in_child=_reopen_after_fork)
