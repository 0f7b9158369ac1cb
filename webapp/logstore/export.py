"""Events for another program: streamed row by row, or as one Parquet file."""

# ruff: noqa: S608 - the SQL is made of field names and of conditions from filters.py

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from webapp.logstore.files import ALL_TIME, Window
from webapp.logstore.filters import Condition
from webapp.logstore.reader import LogReader, naming_errors
from webapp.logstore.view import NAMES, literal, quote, to_event

_COLUMNS: Final = ", ".join(map(quote, NAMES))
_ROWS_AT_ONCE: Final = 2000


def count_events(reader: LogReader, condition: Condition, window: Window = ALL_TIME) -> int:
    """Count the events that meet a condition."""
    sql = f"SELECT count(*) FROM events WHERE {condition.sql}"
    ((count,),) = reader.rows(sql, condition.parameters, window, extra=True)
    return int(count)


def stream_events(
    reader: LogReader, condition: Condition, window: Window = ALL_TIME
) -> Iterator[dict[str, Any]]:
    """Yield events in the order of the files: of time, but for lines that overlap.

    Sorting ten million whole events would need more memory and disk than the log itself.
    """
    sql = f"SELECT {_COLUMNS} FROM events WHERE {condition.sql}"
    with naming_errors(), reader.connected(window, extra=True) as cursor:
        cursor.execute(sql, condition.parameters)
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            for row in rows:
                yield to_event(row)


def write_parquet(
    reader: LogReader, condition: Condition, output: Path, window: Window = ALL_TIME
) -> None:
    """Write events to the one file that the reader may write, in the same order."""
    sql = f"SELECT {_COLUMNS} FROM events WHERE {condition.sql}"
    with naming_errors(), reader.connected(window, extra=True) as cursor:
        # No temporary file beside it: that one may not be written.
        options = "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false"
        cursor.execute(f"COPY ({sql}) TO {literal(str(output))} ({options})", condition.parameters)
