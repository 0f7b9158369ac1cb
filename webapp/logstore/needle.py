"""Find the lines of one request: in raw lines by their bytes, in the archive by DuckDB.

Looking for bytes is 4-5 times faster than parsing every line of the live segment.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

import orjson

from webapp.logstore.files import Snapshot, open_snapshot
from webapp.logstore.reader import LogReader
from webapp.logstore.view import iso

_CHUNK_BYTES: Final = 4 * 2**20


def find_events(reader: LogReader, request_id: str) -> list[dict[str, Any]]:
    """Find every line that carries a request id, as an object."""

    def find() -> list[dict[str, Any]]:
        with open_snapshot(reader.log_dir) as snapshot:
            archive = Snapshot(raw=(), parquet=snapshot.parquet)
            events = reader.events("request_id = ?", [request_id], snapshot=archive)
            for raw in snapshot.raw:
                for line in lines_with(raw.file, f'"{request_id}"'.encode()):
                    event = parse_event(line)
                    if event and event.get("request_id") == request_id:
                        events.append(event)
            return events

    return reader.retried(find)


def lines_with(file: BinaryIO, needle: bytes) -> Iterator[bytes]:
    """Yield the lines of a file that hold some bytes.

    Read, not mapped: a mapped file that is truncated meanwhile kills the process (SIGBUS).
    """
    file.seek(0)
    rest = b""
    while chunk := file.read(_CHUNK_BYTES):
        whole, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            rest += chunk
            continue
        block = rest + whole
        rest = tail
        yield from _matching(block, needle)
    yield from _matching(rest, needle)


def _matching(block: bytes, needle: bytes) -> Iterator[bytes]:
    position = block.find(needle)
    while position >= 0:
        begin = block.rfind(b"\n", 0, position) + 1
        end = block.find(b"\n", position)
        end = len(block) if end < 0 else end
        yield block[begin:end]
        position = block.find(needle, end)


def parse_event(line: bytes) -> dict[str, Any] | None:
    """Read one line; None if it is no event."""
    try:
        event: dict[str, Any] = orjson.loads(line)
        moment = datetime.fromisoformat(event["timestamp"])
    except (ValueError, KeyError, TypeError):
        return None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    if moment.year < 1970:
        return None  # as in the view
    return event | {"timestamp": iso(moment)}
