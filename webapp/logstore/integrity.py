"""Is the log whole: figures by file, and gaps in the numbers that every process gives its lines."""

# ruff: noqa: S608 - the SQL is made of constants and quoted paths

from collections.abc import Callable
from pathlib import Path
from typing import Final

import duckdb

from webapp.events import schema
from webapp.logstore.files import Snapshot, open_snapshot
from webapp.logstore.reader import LogReader
from webapp.logstore.rows import Check, Storage
from webapp.logstore.view import literal, raw_source

Checker = Callable[[duckdb.DuckDBPyConnection, Snapshot], list[Check]]
_ISO: Final = "'%Y-%m-%dT%H:%M:%S.%fZ'"
_MAX_GAPS_NAMED: Final = 5
# A `seq` of 1 begins a new life of that pid. Threads may note the time of its very first lines
# in another order than they are written; no process is born within that time of another's end.
_WITH_LIVES: Final = """
    WITH numbered AS (
        SELECT host, pid, seq, timestamp FROM events WHERE seq IS NOT NULL
    ),
    births AS (
        SELECT host, pid, timestamp - INTERVAL 10 MILLISECOND AS begin FROM numbered WHERE seq = 1
    ),
    lives AS (
        SELECT numbered.*, begin FROM numbered ASOF LEFT JOIN births
        ON numbered.host = births.host AND numbered.pid = births.pid
           AND numbered.timestamp >= births.begin
    )
"""


def verify(reader: LogReader) -> list[Check]:
    """Check every file and the lines of every process; some are missing where ``missing`` > 0."""
    return _checked(reader, lambda cursor, snapshot: [*_files(cursor, snapshot), *_lives(cursor)])


def stats(reader: LogReader) -> list[Storage]:
    """Sum up the files of each kind."""
    found: dict[str, list[Check]] = {}
    for file in _checked(reader, _files):
        found.setdefault(file.kind, []).append(file)
    return [
        Storage(
            kind,
            len(files),
            sum(file.events for file in files),
            sum(file.invalid_lines or 0 for file in files),
            sum(file.bytes or 0 for file in files),
            min((file.first_seen for file in files if file.first_seen), default=None),
            max((file.last_seen for file in files if file.last_seen), default=None),
        )
        for kind, files in found.items()
    ]


def _checked(reader: LogReader, check: Checker) -> list[Check]:
    def run() -> list[Check]:
        with (
            open_snapshot(reader.log_dir) as snapshot,
            reader.connected(snapshot=snapshot) as cursor,
        ):
            return check(cursor, snapshot)

    return reader.retried(run)


def _files(cursor: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> list[Check]:
    checks = []
    if snapshot.parquet:
        paths = ", ".join(literal(str(path)) for path in snapshot.parquet)
        source = f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
        sql = f"SELECT filename, {_FIGURES} FROM {source} GROUP BY filename ORDER BY filename"
        for name, events, invalid, first, last in cursor.execute(sql).fetchall():
            file, size = Path(name), Path(name).stat().st_size
            checks.append(
                Check("archive", file.name, events, size, invalid, None, None, first, last)
            )
    for raw in snapshot.raw:
        kind = "active" if raw.path.name == schema.ACTIVE_NAME else "segment"
        sql = f"SELECT {_FIGURES} FROM ({raw_source(cursor, [raw], extra=False)})"
        ((events, invalid, first, last),) = cursor.execute(sql).fetchall()
        name, size = raw.path.name, raw.size_bytes
        checks.append(Check(kind, name, events, size, invalid, None, None, first, last))
    return checks


_FIGURES: Final = f"""
    count(timestamp), count(*) - count(timestamp),
    strftime(min(timestamp), {_ISO}), strftime(max(timestamp), {_ISO})
"""


def _lives(cursor: duckdb.DuckDBPyConnection) -> list[Check]:
    """Count what is missing between the first and the last number of each life.

    The first life that is kept may have begun in a file that retention deleted.
    """
    sql = f"""
        {_WITH_LIVES}
        SELECT host, pid, begin, min(seq), max(seq), count(*), count(DISTINCT seq),
               strftime(min(timestamp), {_ISO}), strftime(max(timestamp), {_ISO})
        FROM lives GROUP BY host, pid, begin ORDER BY min(timestamp), host, pid
    """
    checks = []
    for host, pid, begin, low, high, count, distinct, first, last in cursor.execute(sql).fetchall():
        missing, duplicates = high - low + 1 - distinct, count - distinct
        detail = _name_gaps(cursor, host, pid, begin) if missing else ""
        if low > 1:
            detail = "; ".join(filter(None, (f"begins at seq {low}", detail)))
        name = f"{host} pid {pid}"
        checks.append(
            Check("process", name, count, None, None, missing, duplicates, first, last, detail)
        )
    return checks


def _name_gaps(cursor: duckdb.DuckDBPyConnection, host: str, pid: int, begin: object) -> str:
    sql = f"""
        {_WITH_LIVES}, distinct_numbers AS (
            SELECT DISTINCT seq FROM lives
            WHERE host = $1 AND pid = $2 AND begin IS NOT DISTINCT FROM $3
        )
        SELECT seq + 1, following - 1
        FROM (SELECT seq, lead(seq) OVER (ORDER BY seq) AS following FROM distinct_numbers)
        WHERE following > seq + 1 ORDER BY seq LIMIT {_MAX_GAPS_NAMED + 1}
    """
    gaps = cursor.execute(sql, [host, pid, begin]).fetchall()
    named = [str(a) if a == b else f"{a}-{b}" for a, b in gaps[:_MAX_GAPS_NAMED]]
    return "missing seq " + ", ".join(named) + (" …" if len(gaps) > _MAX_GAPS_NAMED else "")
