"""Questions to the log, by an in-memory DuckDB that can read the log folder and nothing else."""

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb

from webapp.logstore.files import ALL_TIME, ARCHIVE_NAME, Snapshot, Window, open_snapshot
from webapp.logstore.view import NAMES, events_view, literal, quote, to_event

T = TypeVar("T")
Row = tuple[Any, ...]
MEMORY_LIMIT: Final = "400MB"
_ATTEMPTS: Final = 5
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
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
    window = Window(_parse_moment("since", since, now), _parse_moment("until", until, now))
    if window.since and window.until and window.since >= window.until:
        raise ValueError("the window is empty: since is not before until")
    return window


def _parse_moment(name: str, text: str | None, now: datetime) -> datetime | None:
    if not text:
        return None
    try:
        if match := re.fullmatch(r"(\d{1,6})([smhdw])", text.strip()):
            return now - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        moment = datetime.fromisoformat(text.strip())
        # Here, where a zone that leads out of the calendar is a wrong time as any other.
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        # What was given is not repeated: the message is an answer over HTTP, too.
        raise ValueError(
            f"{name} is not a time; write 15m, 2h, 7d or 2026-11-24T10:00:00Z"
        ) from None


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
        columns = ", ".join(map(quote, NAMES))
        sql = f"SELECT {columns} FROM events WHERE {where} ORDER BY {order}"  # noqa: S608 - ours
        if limit is not None:
            sql += f" LIMIT {int(limit)}"
        rows = self.rows(sql, parameters, window, extra=True, snapshot=snapshot)
        return [to_event(row) for row in rows]

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
            cursor.execute(
                f"CREATE TEMP VIEW events AS {events_view(cursor, snapshot, window, extra)}"
            )
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
