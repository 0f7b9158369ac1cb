"""Which files hold the log, each event in exactly one of them.

The order of looking is what makes a snapshot whole while writers rotate and the archiver works:
first the active file is opened, then the closed segments, last the archive is listed. An open
file stays readable under whatever name, so nothing that moves meanwhile is missed or met twice.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from webapp.events.schema import ACTIVE_NAME, SEGMENT_GLOB

ARCHIVE_NAME: Final = "archive"
WORK_NAME: Final = ".work"
PARQUET_GLOB: Final = "date=*/*.parquet"
# app-20261124T123456.123456Z-4711.1of2.parquet: the first of two files of that segment
_PART: Final = re.compile(r"(?P<segment>.+)\.(?P<number>\d+)of(?P<total>\d+)\.parquet")


@dataclass(frozen=True)
class Window:
    """A span of time, ``since`` included and ``until`` not; None is open."""

    since: datetime | None = None
    until: datetime | None = None

    def utc(self) -> tuple[datetime | None, datetime | None]:
        """Give both ends as UTC without a zone, as the column `timestamp` is."""
        since, until = (
            moment.astimezone(UTC).replace(tzinfo=None) if moment else None
            for moment in (self.since, self.until)
        )
        return since, until

    def touches(self, day: date) -> bool:
        """Tell whether a UTC day has a part in the window."""
        since, until = self.utc()
        begin = datetime.combine(day, datetime.min.time())
        return (since is None or begin + timedelta(days=1) > since) and (
            until is None or begin < until
        )


ALL_TIME: Final = Window()


@dataclass(frozen=True)
class RawFile:
    """An open file of JSON lines, with the name that it had when it was opened."""

    path: Path
    file: BinaryIO

    @property
    def size_bytes(self) -> int:
        """Size now; the active file grows."""
        return os.fstat(self.file.fileno()).st_size

    @property
    def fd_path(self) -> str:
        """Path that leads to this very file, whatever its name is by now."""
        return f"/dev/fd/{self.file.fileno()}"


@dataclass(frozen=True)
class Snapshot:
    """The files that together hold every event once, in order of time."""

    raw: tuple[RawFile, ...]
    parquet: tuple[Path, ...]


@contextmanager
def open_snapshot(log_dir: Path, window: Window = ALL_TIME) -> Iterator[Snapshot]:
    """Open the files that hold the events of a window; a missing folder holds none."""
    with ExitStack() as stack:
        # The active file first: renamed meanwhile, it is found again among the segments.
        names = [log_dir / ACTIVE_NAME]
        opened = {file.path: file for file in _open(stack, names)}
        active = {_identity(file) for file in opened.values()}
        segments = [
            file for file in _open(stack, list_segments(log_dir)) if _identity(file) not in active
        ]
        parts = list_parts(log_dir)
        kept = [file for file in segments if not is_complete(parts.get(file.path.stem, []))]
        unfinished = {file.path.stem for file in kept}
        parquet = [
            path
            for segment, paths in parts.items()
            if segment not in unfinished
            for path in paths
            if _in_window(path, window)
        ]
        yield Snapshot((*kept, *opened.values()), tuple(sorted(parquet)))


def list_parts(log_dir: Path) -> dict[str, list[Path]]:
    """List the archive's files by the segment that they were made from."""
    parts = defaultdict(list)
    for path in sorted((log_dir / ARCHIVE_NAME).glob(PARQUET_GLOB)):
        match = _PART.fullmatch(path.name)
        parts[match["segment"] if match else path.stem].append(path)
    return dict(parts)


def is_complete(paths: list[Path]) -> bool:
    """Tell whether all the files that a segment was split into are there."""
    matches = [match for path in paths if (match := _PART.fullmatch(path.name))]
    return bool(matches) and len(matches) == int(matches[0]["total"])


def list_segments(log_dir: Path) -> list[Path]:
    """List the closed segments that are still lines, the oldest first."""
    return sorted(log_dir.glob(SEGMENT_GLOB))


def part_name(segment: str, number: int, total: int) -> str:
    """Name one of the files that a segment becomes."""
    return f"{segment}.{number}of{total}.parquet"


def partition_day(path: Path) -> date | None:
    """Read the day from the folder of an archived file."""
    try:
        return date.fromisoformat(path.parent.name.removeprefix("date="))
    except ValueError:
        return None


def _in_window(path: Path, window: Window) -> bool:
    day = partition_day(path)
    return day is None or window.touches(day)


def _identity(file: RawFile) -> tuple[int, int]:
    status = os.fstat(file.file.fileno())
    return status.st_dev, status.st_ino


def _open(stack: ExitStack, paths: list[Path]) -> Iterator[RawFile]:
    for path in paths:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            # Archived, pruned or renamed since it was listed: its events are found elsewhere.
            continue
        yield RawFile(path, stack.enter_context(file))
