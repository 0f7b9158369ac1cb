"""The view `events` over live lines and the archive: its SQL, and its rows as events."""

# ruff: noqa: S608 - the SQL is made of field names, our own constants and quoted paths

import json
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import duckdb

from webapp.events.schema import FIELD_NAMES, FIELDS
from webapp.logstore.files import RawFile, Snapshot, Window

EXTRA: Final = "extra"
NAMES: Final = (*(field.name for field in FIELDS), EXTRA)
_JSON_NAMES: Final = frozenset(field.name for field in FIELDS if field.type == "JSON")
# Python's datetime ends there; a stray line from another age is no event.
_YEAR_9999_MICROSECONDS: Final = 253_402_300_799_999_999
_DEFAULT_OBJECT_BYTES: Final = 16 * 2**20
_KNOWN: Final = ", ".join(f"'{name}'" for name in sorted(FIELD_NAMES))
_WITHOUT_KNOWN: Final = json.dumps(dict.fromkeys(sorted(FIELD_NAMES)))


def events_view(
    cursor: duckdb.DuckDBPyConnection, snapshot: Snapshot, window: Window, extra: bool
) -> str:
    """Write the view `events`; casts keep the types stable over archives of other versions."""
    columns = ", ".join(
        f"TRY_CAST({quote(field.name)} AS {field.type}) AS {quote(field.name)}" for field in FIELDS
    )
    empty = ", ".join(f"NULL::{field.type} AS {quote(field.name)}" for field in FIELDS)
    sources = [f"SELECT {empty}, NULL::JSON AS {EXTRA} WHERE false"]
    if snapshot.parquet:
        paths = ", ".join(literal(str(path)) for path in snapshot.parquet)
        options = "union_by_name = true, hive_partitioning = false"
        sources.append(f"SELECT * FROM read_parquet([{paths}], {options})")
    if snapshot.raw:
        sources.append(raw_source(cursor, snapshot.raw, extra))
    conditions = ["timestamp IS NOT NULL"]
    for sign, end in zip((">=", "<"), window.utc(), strict=True):
        if end is not None:
            conditions.append(f"timestamp {sign} TIMESTAMP '{end.isoformat()}'")
    return (
        f"SELECT {columns}, TRY_CAST({EXTRA} AS JSON) AS {EXTRA}"
        f" FROM ({' UNION ALL BY NAME '.join(sources)}) WHERE {' AND '.join(conditions)}"
    )


def raw_source(cursor: duckdb.DuckDBPyConnection, files: Sequence[RawFile], extra: bool) -> str:
    """Select the columns of raw lines; a line that is no event has no timestamp.

    A zone other than Z is honoured: read as TIMESTAMP, ``+02:00`` would be dropped in silence.
    """
    options = (
        "format = 'newline_delimited', ignore_errors = true,"
        f" maximum_object_size = {_longest_line_bytes(files)}"
    )
    paths = "[" + ", ".join(literal(file.fd_path) for file in files) + "]"
    types = {field.name: field.type.replace("TIMESTAMP", "TIMESTAMPTZ") for field in FIELDS}
    columns = ", ".join(f"{quote(name)}: '{kind}'" for name, kind in types.items())
    lines = f"read_json({paths}, columns = {{{columns}}}, {options})"
    moment = (
        f"CASE WHEN epoch_us(timestamp) BETWEEN 0 AND {_YEAR_9999_MICROSECONDS}"
        " THEN make_timestamp(epoch_us(timestamp)) END AS timestamp"
    )
    if not extra:
        return f"SELECT * REPLACE ({moment}) FROM {lines}"
    objects = f"read_json_objects({paths}, {options})"
    if not _has_other_fields(cursor, objects):
        return f"SELECT * REPLACE ({moment}), NULL::JSON AS {EXTRA} FROM {lines}"
    # Both functions make one row of each line, in order; a merge patch of nulls takes away
    # the known fields (RFC 7396). It costs as much as all the columns, hence the look before.
    rest = (
        f"nullif(json_merge_patch(whole_line, {literal(_WITHOUT_KNOWN)}), '{{}}')::JSON AS {EXTRA}"
    )
    return (
        f"SELECT * EXCLUDE (whole_line) REPLACE ({moment}), {rest} FROM {lines}"
        f" POSITIONAL JOIN (SELECT json AS whole_line FROM {objects})"
    )


def _has_other_fields(cursor: duckdb.DuckDBPyConnection, objects: str) -> bool:
    keys = f"SELECT DISTINCT unnest(json_keys(json)) AS key FROM {objects}"
    found = cursor.execute(f"SELECT 1 FROM ({keys}) WHERE key NOT IN ({_KNOWN}) LIMIT 1")
    return found.fetchone() is not None


def _longest_line_bytes(files: Sequence[RawFile]) -> int:
    """Bound the longest line: DuckDB fails on an unterminated tail over its default of 16 MiB,

    as a power failure can leave one (a hole of NUL bytes).
    """
    longest = _DEFAULT_OBJECT_BYTES
    for file in files:
        size = file.size_bytes
        tail_begin = max(0, size - _DEFAULT_OBJECT_BYTES)
        if tail_begin and b"\n" not in os.pread(file.file.fileno(), size, tail_begin):
            longest = max(longest, size + 1)
    return longest


def quote(name: str) -> str:
    """Write a column name for SQL."""
    return f'"{name}"'


def literal(text: str) -> str:
    """Write a string for SQL."""
    return "'" + text.replace("'", "''") + "'"


def to_event(row: tuple[Any, ...]) -> dict[str, Any]:
    """Make of a row of ``NAMES`` what its line was: an object without the fields it lacks."""
    event: dict[str, Any] = {}
    for name, value in zip(NAMES, row, strict=True):
        if value is None:
            continue
        if name == EXTRA:
            event |= json.loads(value)
        elif isinstance(value, datetime):
            event[name] = iso(value)
        else:
            event[name] = json.loads(value) if name in _JSON_NAMES else value
    return event


def iso(moment: datetime) -> str:
    """Write a moment of the column `timestamp` as the lines do."""
    return moment.isoformat(timespec="microseconds") + "Z"
