"""Closed segments become Parquet, and the oldest files of the log are deleted.

At every moment each event is in exactly one place for a reader: in its segment until all files
made of that segment have their final names, in those files from then on (see ``files.py``). So
this process may be killed at any step; the next one finishes or repeats it.
"""

# ruff: noqa: S608 - the SQL is made of field names, dates and quoted paths

import argparse
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import BinaryIO, Final

import duckdb

from webapp import launcher
from webapp.events.schema import FIELDS, FILE_MODE, FOLDER_MODE
from webapp.logstore.files import (
    ARCHIVE_NAME,
    WORK_NAME,
    RawFile,
    list_segments,
    part_name,
)
from webapp.logstore.reader import connect
from webapp.logstore.retention import prune, tidy
from webapp.logstore.view import EXTRA, NAMES, literal, quote, raw_source

MEMORY_LIMIT: Final = "300MB"
# Small groups: a question about a short time, or one request, then reads little.
_ROW_GROUP_ROWS: Final = 32_768
_INVALID_BYTES: Final = 64 * 2**10
_COLUMNS: Final = ", ".join(map(quote, NAMES))


@dataclass(frozen=True)
class Archived:
    """What became of one segment."""

    segment: str
    events: int
    invalid_lines: int
    segment_bytes: int
    archive_bytes: int


class ArchiveError(Exception):
    """Segments that could not be converted, and why."""


class ArchiveBusyError(Exception):
    """Another process archives, and a further one waits for it already."""


def archiver_command(log_dir: Path, retention_days: int, max_bytes: int) -> launcher.Command:
    """Make the command line of a short-lived process of low priority that archives and prunes.

    A process of its own, because converting takes memory that the allocator of a worker would keep.
    """
    options = ["--log-dir", str(log_dir), "--retention-days", str(retention_days)]
    return launcher.python("webapp.logstore.archive", *options, "--max-bytes", str(max_bytes))


def start_archiver(log_dir: Path, retention_days: int, max_bytes: int) -> None:
    """Start that process, at once or as soon as that is possible again."""
    with suppress(launcher.LauncherGoneError):
        launcher.start(archiver_command(log_dir, retention_days, max_bytes))


@contextmanager
def archive_lock(log_dir: Path) -> Iterator[None]:
    """Be the only one that changes the archive.

    Raises
    ------
    ArchiveBusyError : another one waits already; it will see all that is there now
    """
    folder = log_dir / ARCHIVE_NAME
    folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as lock, (folder / ".waiting").open("wb") as waiting:
        if not _try_lock(lock):
            if not _try_lock(waiting):
                raise ArchiveBusyError
            fcntl.flock(lock, fcntl.LOCK_EX)
            fcntl.flock(waiting, fcntl.LOCK_UN)
        yield


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def archive_segments(
    log_dir: Path, on_archived: Callable[[Archived], None] = lambda archived: None
) -> list[Archived]:
    """Convert every closed segment, also those that are closed meanwhile; hold the lock.

    Raises
    ------
    ArchiveError : some segments could not be converted; they stay as they are
    """
    tidy(log_dir)
    done: list[Archived] = []
    failed: dict[str, str] = {}
    while segments := [path for path in list_segments(log_dir) if path.name not in failed]:
        for segment in segments:
            try:
                archived = _archive_segment(log_dir, segment)
            except (duckdb.Error, OSError) as error:
                failed[segment.name] = str(error)
                continue
            done.append(archived)
            on_archived(archived)
    if failed:
        raise ArchiveError("; ".join(f"{name}: {why}" for name, why in failed.items()))
    return done


def _archive_segment(log_dir: Path, segment: Path) -> Archived:
    work = log_dir / ARCHIVE_NAME / WORK_NAME
    work.mkdir(FOLDER_MODE, exist_ok=True)
    with segment.open("rb") as file:
        raw = RawFile(segment, file)
        size = raw.size_bytes
        database = connect(log_dir, 1, MEMORY_LIMIT, spill_dir=work)
        try:
            events, invalid = _load(database, raw)
            made = _write_parts(database, segment, work)
        finally:
            database.close()
    finished = _move_into_place(log_dir, made)
    # Only now: until all parts have their names a reader takes the segment.
    segment.unlink()
    _sync_folder(log_dir)
    shutil.rmtree(work)
    archive_bytes = sum(path.stat().st_size for path in finished)
    return Archived(segment.name, events, invalid, size, archive_bytes)


def _load(database: duckdb.DuckDBPyConnection, raw: RawFile) -> tuple[int, int]:
    """Load the lines of a segment into a table; count events, and lines that are none."""
    source = raw_source(database, [raw], extra=True)
    database.execute(f"CREATE TABLE segment AS SELECT {_COLUMNS} FROM ({source})")
    numbers = database.execute("SELECT rowid FROM segment WHERE timestamp IS NULL").fetchall()
    invalid = {number for (number,) in numbers}
    if invalid:
        _keep_text(database, raw, invalid)
    ((count,),) = database.execute("SELECT count(*) FROM segment").fetchall()
    return count - len(invalid), len(invalid)


def _keep_text(database: duckdb.DuckDBPyConnection, raw: RawFile, numbers: set[int]) -> None:
    """Keep lines that are no events as rows without a timestamp: nothing is thrown away.

    DuckDB makes one row, in order, of every line that is not blank.
    """
    raw.file.seek(0)
    lines = (line for line in raw.file if line.strip())
    texts = [
        (line[:_INVALID_BYTES].rstrip(b"\n").decode(errors="backslashreplace"), number)
        for number, line in enumerate(lines)
        if number in numbers
    ]
    database.execute("CREATE TEMP TABLE invalid (text VARCHAR, number BIGINT)")
    database.executemany("INSERT INTO invalid VALUES (?, ?)", texts)
    columns = ", ".join(f"{quote(f.name)} = NULL" for f in FIELDS if f.name != "message")
    database.execute(
        f"UPDATE segment SET message = text, {columns}, {EXTRA} = NULL"
        " FROM invalid WHERE segment.rowid = invalid.number"
    )


def _write_parts(
    database: duckdb.DuckDBPyConnection, segment: Path, work: Path
) -> list[tuple[date, Path]]:
    """Write one file for each UTC day, all under temporary names."""
    last = literal(_day_closed(segment).isoformat())
    day_of = f"coalesce(timestamp::DATE, (SELECT max(timestamp) FROM segment)::DATE, DATE {last})"
    days = database.execute(f"SELECT DISTINCT {day_of} AS day FROM segment ORDER BY day")
    made = []
    found = [day for (day,) in days.fetchall()]
    for number, day in enumerate(found, 1):
        path = work / part_name(segment.stem, number, len(found))
        database.execute(
            f"COPY (SELECT * FROM segment WHERE {day_of} = DATE '{day}'"
            f" ORDER BY timestamp NULLS LAST) TO {literal(str(path))}"
            f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP_ROWS})"
        )
        path.chmod(FILE_MODE)  # DuckDB leaves it to the umask
        _sync(path)
        made.append((day, path))
    return made


def _day_closed(segment: Path) -> date:
    try:
        return datetime.strptime(segment.name[4:12], "%Y%m%d").date()
    except ValueError:
        return date.fromtimestamp(segment.stat().st_mtime)


def _move_into_place(log_dir: Path, made: list[tuple[date, Path]]) -> list[Path]:
    finished = []
    for day, path in made:
        folder = log_dir / ARCHIVE_NAME / f"date={day.isoformat()}"
        folder.mkdir(FOLDER_MODE, exist_ok=True)
        finished.append(path.rename(folder / path.name))
        _sync_folder(folder)
    _sync_folder(log_dir / ARCHIVE_NAME)
    return finished


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_sync_folder = _sync


def main() -> None:
    """Archive and prune once; what ``start_archiver`` starts."""
    parser = argparse.ArgumentParser(prog="python -m webapp.logstore.archive")
    parser.add_argument("--log-dir", type=Path, required=True)
    parser.add_argument("--retention-days", type=int, required=True)
    parser.add_argument("--max-bytes", type=int, required=True)
    options = parser.parse_args()
    os.nice(19)
    try:
        with archive_lock(options.log_dir):
            try:
                archive_segments(options.log_dir)
            finally:
                # A full disk may be why archiving failed.
                prune(options.log_dir, options.retention_days, options.max_bytes)
    except ArchiveBusyError:
        return
    except (ArchiveError, OSError) as error:
        sys.exit(f"pellucid: the log could not be archived: {error}")


if __name__ == "__main__":
    main()
