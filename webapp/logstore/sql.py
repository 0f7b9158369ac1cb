"""SQL of an operator: one statement that reads `events`."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import duckdb

from webapp.logstore.reader import LogReader, naming_errors
from webapp.logstore.view import iso

_ROWS_AT_ONCE: Final = 2000
_EXAMPLE: Final = "SELECT level, count(*) FROM events GROUP BY level"


class SqlError(ValueError):
    """SQL that is wrong, or that does more than read."""


def select(reader: LogReader, text: str) -> Iterator[dict[str, Any]]:
    """Run one SELECT on the view `events`; the database can read the log folder only.

    Raises
    ------
    SqlError : it is not one SELECT, or DuckDB does not understand it
    """
    with naming_errors(), reader.connected(extra=True) as cursor:
        try:
            cursor.execute(_one_select(cursor, text))
            names = _distinct([column[0] for column in cursor.description or ()])
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                for row in rows:
                    yield dict(zip(names, map(_plain, row), strict=True))
        except (duckdb.OutOfMemoryException, duckdb.IOException):
            raise
        except duckdb.Error as error:
            raise SqlError(str(error)) from None


def _one_select(cursor: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement:
    statements = cursor.extract_statements(text)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise SqlError(f"only one SELECT can be run; for example {_EXAMPLE}")
    return statements[0]


def _distinct(names: list[str]) -> list[str]:
    """Number names that occur twice: an object cannot hold both."""
    found: list[str] = []
    for name in names:
        times = sum(1 for other in found if other == name or other.startswith(f"{name}_"))
        found.append(name if name not in found else f"{name}_{times}")
    return found


def _plain(value: Any) -> Any:
    """Write times as the lines do, and integers over 64 bits, as a sum can be, as text."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return iso(value)
    if isinstance(value, int) and value.bit_length() > 63:
        return str(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
