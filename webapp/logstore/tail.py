"""The newest lines, and those that come after them, across rotations."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from webapp.events.schema import ACTIVE_NAME
from webapp.logstore.files import Snapshot, list_segments, open_snapshot
from webapp.logstore.needle import parse_event
from webapp.logstore.reader import LogReader

Event = dict[str, Any]
_BLOCK_BYTES: Final = 64 * 2**10
_NEWEST_FIRST: Final = "timestamp DESC, host DESC, pid DESC, seq DESC"


class Tail:
    """The end of the log: what is there now, then what is added."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._file: BinaryIO | None = None
        self._position = 0
        self._open()
        if self._file is not None:
            self._position = _end_of_lines(self._file)
        # Closed before, hence no news; but ours may have been closed this very moment.
        self._seen = {path.name for path in list_segments(log_dir) if not self._is_ours(path)}

    def newest(self, count: int) -> list[Event]:
        """Read the newest events that were there at the start, in the order of writing."""
        reader = LogReader(self._log_dir)

        def read() -> list[Event]:
            with open_snapshot(self._log_dir) as snapshot:
                closed = [raw.file for raw in snapshot.raw if raw.path.name in self._seen]
                events = self._newest_raw(closed, count)
                if missing := count - len(events):
                    archive = Snapshot(raw=(), parquet=snapshot.parquet)
                    older = reader.events(order=_NEWEST_FIRST, limit=missing, snapshot=archive)
                    events = older[::-1] + events
            return events

        return reader.retried(read)

    def added(self) -> Iterator[Event]:
        """Read the events that were added since the last call."""
        yield from self._read_on()
        if self._file is not None and self._is_ours(self._log_dir / ACTIVE_NAME):
            return
        # Rotated: nobody writes to our file any more, but its last lines may be new.
        yield from self._read_on()
        for path in list_segments(self._log_dir):
            if path.name not in self._seen and not self._is_ours(path):
                yield from _read_events(path)
            self._seen.add(path.name)
        self._open()
        yield from self._read_on()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> None:
        self.close()
        try:
            self._file = (self._log_dir / ACTIVE_NAME).open("rb")
        except FileNotFoundError:
            self._file = None
        self._position = 0

    def _is_ours(self, path: Path) -> bool:
        try:
            return self._file is not None and os.path.samestat(
                os.fstat(self._file.fileno()), path.stat()
            )
        except FileNotFoundError:
            return False

    def _read_on(self) -> Iterator[Event]:
        if self._file is None:
            return
        if os.fstat(self._file.fileno()).st_size < self._position:
            self._position = 0  # somebody truncated it
        self._file.seek(self._position)
        data = self._file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._position += len(data)
        yield from _events(data)

    def _newest_raw(self, closed: list[BinaryIO], count: int) -> list[Event]:
        events: list[Event] = []
        if self._file is not None:
            events = _last_events(self._file, self._position, count)
        for file in reversed(closed):
            if len(events) >= count:
                break
            events = _last_events(file, _end_of_lines(file), count - len(events)) + events
        return events


def _events(data: bytes) -> Iterator[Event]:
    """Read lines; one that is no event, torn or written by something else, is told as it is."""
    return (
        parse_event(line) or {"raw": line.decode("utf-8", "replace")}
        for line in data.split(b"\n")
        if line.strip()
    )


def _read_events(path: Path) -> Iterator[Event]:
    try:
        return _events(path.read_bytes())
    except FileNotFoundError:
        return iter(())  # archived within a moment of its closing


def _end_of_lines(file: BinaryIO) -> int:
    """Find where the last complete line ends."""
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        begin = max(0, position - _BLOCK_BYTES)
        newline = os.pread(file.fileno(), position - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        position = begin
    return 0


def _last_events(file: BinaryIO, end: int, count: int) -> list[Event]:
    """Read the last events before a position, block by block from behind."""
    data, begin = b"", end
    while begin > 0 and data.count(b"\n") <= count:
        begin = max(0, begin - _BLOCK_BYTES)
        data = os.pread(file.fileno(), end - begin, begin)
    if begin > 0:
        data = data[data.find(b"\n") + 1 :]
    return list(_events(data))[-count:] if count else []
