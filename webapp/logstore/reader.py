"""The view `events` over live lines and the archive, in an in-memory DuckDB."""

# ruff: noqa: S608 - the SQL is made of field names, our own constants and quoted paths

import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb

from webapp.events.schema import FIELD_NAMES, FIELDS
from webapp.logstore.files import ALL_TIME, ARCHIVE_NAME, RawFile, Snapshot, Window, open_snapshot

T = TypeVar("T")
Row = tuple[Any, ...]
MEMORY_LIMIT: Final = "400MB"
EXTRA: Final = "extra"
_ATTEMPTS: Final = 5
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
# Python's datetime ends there; a stray line from another age is no event.
_YEAR_9999_MICROSECONDS: Final = 253_402_300_799_999_999
_DEFAULT_OBJECT_BYTES: Final = 16 * 2**20
_KNOWN: Final = ", ".join(f"'{name}'" for name in sorted(FIELD_NAMES))
_WITHOUT_KNOWN: Final = json.dumps(dict.fromkeys(sorted(FIELD_NAMES)))
# Connections that a forked child inherited: freeing one would wait for threads it does not have.
_inherited: list[duckdb.DuckDBPyConnection] = []


class LogReadError(Exception):
    """The log cannot be read; the message names the file."""


def parse_window(since: str | None, until: str | None, now: datetime) -> Window:
    """Read a window from ``15m``, ``2h``, ``7d`` (before now) or ISO times.

    Raises
    ------
    ValueError : with an example of what is understood
    """
    window = Window(_parse_moment(since, now), _parse_moment(until, now))
    if window.since and window.until and window.since >= window.until:
        raise ValueError(f"the window is empty: {since!r} is not before {until!r}")
    return window


def _parse_moment(text: str | None, now: datetime) -> datetime | None:
    if not text:
        return None
    try:
        if match := re.fullmatch(r"(\d{1,6})([smhdw])", text.strip()):
            return now - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text[:40]!r} is not a time; write 15m, 2h, 7d or 2026-11-24T10:00:00Z"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextmanager
def naming_errors() -> Iterator[None]:
    """Tell what DuckDB could not read, as an error of ours."""
    try:
        yield
    except (
        duckdb.IOException,
        duckdb.PermissionException,
        duckdb.InvalidInputException,
        duckdb.OutOfMemoryException,
    ) as error:
        raise LogReadError(str(error)) from error


class LogReader:
    """Answer SQL over the log in a folder; one for a process, shared by its threads."""

    def __init__(
        self,
        log_dir: Path,
        threads: int = 2,
        *,
        spill_dir: Path | None = None,
        output: Path | None = None,
    ) -> None:
        self.log_dir = log_dir
        self._threads = threads
        self._spill_dir = spill_dir
        self._output = output
        self._lock = threading.Lock()
        self._database: duckdb.DuckDBPyConnection | None = None
        self._pid = 0

    def rows(
        self,
        sql: str,
        parameters: Sequence[Any] = (),
        window: Window = ALL_TIME,
        *,
        extra: bool = False,
        snapshot: Snapshot | None = None,
    ) -> list[Row]:
        """Run a query on `events`, which holds the window alone."""

        def run() -> list[Row]:
            with self.connected(window, extra=extra, snapshot=snapshot) as cursor:
                return cursor.execute(sql, parameters).fetchall()

        return self.retried(run) if snapshot is None else run()

    def events(
        self,
        where: str = "true",
        parameters: Sequence[Any] = (),
        window: Window = ALL_TIME,
        *,
        order: str = "timestamp, seq",
        limit: int | None = None,
        snapshot: Snapshot | None = None,
    ) -> list[dict[str, Any]]:
        """Read whole events, each with the fields that its line has."""
        names = [field.name for field in FIELDS] + [EXTRA]
        sql = f"SELECT {', '.join(map(quote, names))} FROM events WHERE {where} ORDER BY {order}"
        if limit is not None:
            sql += f" LIMIT {int(limit)}"
        rows = self.rows(sql, parameters, window, extra=True, snapshot=snapshot)
        return [to_event(names, row) for row in rows]

    def retried(self, read: Callable[[], T]) -> T:
        """Read with a fresh look at the folder when a file was pruned or moved away meanwhile."""
        with naming_errors():
            for _ in range(_ATTEMPTS - 1):
                try:
                    return read()
                except (duckdb.IOException, duckdb.PermissionException):
                    continue
            return read()

    @contextmanager
    def connected(
        self,
        window: Window = ALL_TIME,
        *,
        extra: bool = False,
        snapshot: Snapshot | None = None,
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a cursor of its own on which the view `events` stands."""
        with ExitStack() as stack:
            if snapshot is None:
                snapshot = stack.enter_context(open_snapshot(self.log_dir, window))
            cursor = stack.enter_context(self._cursor())
            cursor.execute(f"CREATE TEMP VIEW events AS {_view(cursor, snapshot, window, extra)}")
            yield cursor

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._lock:
            if self._database is None or self._pid != os.getpid():
                if self._database is not None:
                    _inherited.append(self._database)
                self._database = connect(
                    self.log_dir, self._threads, spill_dir=self._spill_dir, output=self._output
                )
                self._pid = os.getpid()
            cursor = self._database.cursor()
        try:
            yield cursor
        finally:
            cursor.close()


def connect(
    log_dir: Path,
    threads: int,
    memory_limit: str = MEMORY_LIMIT,
    *,
    spill_dir: Path | None = None,
    output: Path | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory database that can reach the log folder and one output file at most.

    DuckDB resolves links before it looks at the folders, so that a descriptor of a file in the
    log folder is allowed, and a link that leads out of it is not.
    """
    database = duckdb.connect(
        config={
            "threads": str(threads),
            "memory_limit": memory_limit,
            "temp_directory": str(spill_dir or ""),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
        }
    )
    database.execute("SET TimeZone = 'UTC'")
    # The archive may be a link to a larger disk.
    folders = {f"{folder.resolve()}/" for folder in (log_dir, log_dir / ARCHIVE_NAME)}
    database.execute(f"SET allowed_directories = [{', '.join(map(literal, sorted(folders)))}]")
    if output is not None:
        database.execute(f"SET allowed_paths = [{literal(str(output.resolve()))}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    return database


def to_event(names: Sequence[str], row: Row) -> dict[str, Any]:
    """Make of a row what its line was: an object without the fields that it lacks."""
    event: dict[str, Any] = {}
    for name, value in zip(names, row, strict=True):
        if value is None:
            continue
        if name == EXTRA:
            event |= json.loads(value)
        elif isinstance(value, datetime):
            event[name] = iso(value)
        else:
            event[name] = json.loads(value) if name in _JSON_NAMES else value
    return event


_JSON_NAMES: Final = frozenset(field.name for field in FIELDS if field.type == "JSON")


def iso(moment: datetime) -> str:
    """Write a moment of the column `timestamp` as the lines do."""
    return moment.isoformat(timespec="microseconds") + "Z"


def _view(
    cursor: duckdb.DuckDBPyConnection, snapshot: Snapshot, window: Window, extra: bool
) -> str:
    """Write the view; casts keep the types stable over archives of other versions."""
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
