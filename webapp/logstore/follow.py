"""What was added to the live log since somebody last asked, who keeps the place himself.

For pages that ask again and again: between two questions the server holds nothing for them.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from webapp.events.schema import ACTIVE_NAME, FIELDS
from webapp.logstore.files import Snapshot
from webapp.logstore.filters import Condition
from webapp.logstore.needle import parse_event
from webapp.logstore.reader import LogReader
from webapp.logstore.view import EXTRA, literal

# More at once is no live view any more: whoever asks had better search anew.
_MOST_BYTES: Final = 4 * 2**20
_NOTHING: Final = Snapshot(raw=(), parquet=())
_TYPES: Final = {field.name: field.type.replace("TIMESTAMP", "TIMESTAMPTZ") for field in FIELDS}
# The columns of the view `events`, of lines that come as a parameter instead of in a file.
_EVENTS: Final = f"""
    SELECT line_number - 1 AS line_number,
           fields.* REPLACE (make_timestamp(epoch_us(fields.timestamp)) AS timestamp),
           json_merge_patch(line, {literal(json.dumps(dict.fromkeys(_TYPES)))})::JSON AS {EXTRA}
    FROM (
        SELECT *, from_json(line, {literal(json.dumps(_TYPES))}) AS fields
        FROM (SELECT unnest(lines) AS line, generate_subscripts(lines, 1) AS line_number
              FROM (SELECT ?::VARCHAR[] AS lines))
    )
"""  # noqa: S608 - made of field names


@dataclass(frozen=True)
class Added:
    """Events in the order of writing, and the place to ask from next.

    ``events`` is None when too much was written since, or the file was rotated away.
    """

    events: list[dict[str, Any]] | None
    place: str


def end_of_log(log_dir: Path) -> str:
    """Name the place where the live log ends now."""
    try:
        status = (log_dir / ACTIVE_NAME).stat()
    except FileNotFoundError:
        return "0-0"
    return f"{status.st_ino}-{status.st_size}"


def added(reader: LogReader, place: str, condition: Condition) -> Added:
    """Read the events that meet a condition and were written after a place.

    Raises
    ------
    ValueError : ``place`` is none that ``end_of_log`` or this function named
    """
    inode, offset = (int(number) for number in place.split("-"))
    try:
        with (reader.log_dir / ACTIVE_NAME).open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != inode or not 0 <= status.st_size - offset <= _MOST_BYTES:
                return Added(None, end_of_log(reader.log_dir))
            data = os.pread(file.fileno(), status.st_size - offset, offset)
    except FileNotFoundError:
        return Added(None if inode else [], "0-0")
    whole = data[: data.rfind(b"\n") + 1]
    return Added(_meeting(reader, condition, whole), f"{inode}-{offset + len(whole)}")


def _meeting(reader: LogReader, condition: Condition, data: bytes) -> list[dict[str, Any]]:
    events = [
        (event, line) for line in data.split(b"\n") if (event := parse_event(line)) is not None
    ]
    if not events or condition.sql == "true":
        return [event for event, _ in events]
    kept = _numbers(reader, condition, [line.decode(errors="replace") for _, line in events])
    return [events[number][0] for number in kept]


def _numbers(reader: LogReader, condition: Condition, lines: Sequence[str]) -> list[int]:
    """Tell which lines meet a condition; DuckDB judges, as in every other question."""
    sql = f"""
        WITH events AS ({_EVENTS})
        SELECT line_number FROM events WHERE {condition.sql} ORDER BY line_number
    """  # noqa: S608 - our own SQL; values are parameters
    rows = reader.rows(sql, [list(lines), *condition.parameters], snapshot=_NOTHING)
    return [number for (number,) in rows]
