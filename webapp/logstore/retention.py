"""Deleting files of the log: what a killed archiver left, and the oldest."""

import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from webapp.events.schema import ACTIVE_NAME
from webapp.logstore.files import (
    ARCHIVE_NAME,
    WORK_NAME,
    is_complete,
    list_parts,
    list_segments,
    partition_day,
)


@dataclass(frozen=True)
class LogFile:
    """A file of the log: its last day, and its size."""

    path: Path
    last_day: date
    size_bytes: int


def tidy(log_dir: Path) -> None:
    """Finish or undo what a killed archiver left; hold the archive's lock.

    An incomplete set of archived files goes before its segment could: without the segment a
    reader would take it for the whole.
    """
    shutil.rmtree(log_dir / ARCHIVE_NAME / WORK_NAME, ignore_errors=True)
    parts = list_parts(log_dir)
    for segment in list_segments(log_dir):
        made = parts.get(segment.stem, [])
        for path in [segment] if is_complete(made) else made:
            path.unlink()


def prune(
    log_dir: Path,
    retention_days: int,
    max_bytes: int,
    *,
    today: date | None = None,
    dry_run: bool = False,
) -> list[LogFile]:
    """Delete files older than some days, then the oldest until the rest is small enough.

    The active file counts and is never deleted. Hold the archive's lock.
    """
    if not dry_run:
        tidy(log_dir)
    oldest_kept = (today or datetime.now(UTC).date()).toordinal() - retention_days
    files = list_files(log_dir)
    total = sum(file.size_bytes for file in files) + _size(log_dir / ACTIVE_NAME)
    removed = []
    for file in files:
        if file.last_day.toordinal() >= oldest_kept and total <= max_bytes:
            break
        if not dry_run:
            file.path.unlink()
        total -= file.size_bytes
        removed.append(file)
    for folder in (log_dir / ARCHIVE_NAME).glob("date=*"):
        if not any(folder.iterdir()):
            folder.rmdir()
    return removed


def list_files(log_dir: Path) -> list[LogFile]:
    """List all files of the log but the active one, the oldest first."""
    archived = [path for paths in list_parts(log_dir).values() for path in paths]
    files = [_log_file(path) for path in (*archived, *list_segments(log_dir))]
    return sorted(files, key=lambda file: (file.last_day, file.path.name))


def _log_file(path: Path) -> LogFile:
    status = path.stat()
    modified = datetime.fromtimestamp(status.st_mtime, UTC).date()
    return LogFile(path, partition_day(path) or modified, status.st_size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
