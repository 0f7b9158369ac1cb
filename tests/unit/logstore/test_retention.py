"""Which files of the log are deleted, and in which order."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests.log_lines import Process, write_log
from webapp.logstore.archive import archive_lock, archive_segments
from webapp.logstore.reader import LogReader
from webapp.logstore.retention import prune

TODAY = date(2026, 11, 24)


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    """Ten days in the archive, the day's number as seq, and an active file."""
    for days_ago in range(10, 0, -1):
        moment = datetime(2026, 11, 24, 12, tzinfo=UTC) - timedelta(days=days_ago)
        name = f"app-{moment:%Y%m%dT%H%M%S.%f}Z-1.jsonl"
        write_log(tmp_path / name, [Process(seq=days_ago - 1).event(moment)])
    with archive_lock(tmp_path):
        archive_segments(tmp_path)
    write_log(tmp_path / "app.log", [Process(seq=-1).event(datetime(2026, 11, 24, tzinfo=UTC))])
    return tmp_path


def days_kept(log_dir: Path) -> list[int]:
    return [days for (days,) in LogReader(log_dir).rows("SELECT seq FROM events ORDER BY seq")]


def test_files_past_their_days_go(log_dir: Path) -> None:
    removed = prune(log_dir, 3, 10**12, today=TODAY)
    assert len(removed) == 7
    assert days_kept(log_dir) == [0, 1, 2, 3]
    assert not (log_dir / "archive" / "date=2026-11-14").exists()


def test_the_oldest_go_until_the_rest_is_small_enough(log_dir: Path) -> None:
    sizes = [path.stat().st_size for path in log_dir.glob("archive/*/*.parquet")]
    kept = (log_dir / "app.log").stat().st_size + sum(sorted(sizes)[-4:])
    prune(log_dir, 365, kept, today=TODAY)
    assert days_kept(log_dir) == [0, 1, 2, 3, 4]


def test_the_active_file_is_never_deleted(log_dir: Path) -> None:
    prune(log_dir, 0, 1, today=TODAY + timedelta(days=99))
    assert days_kept(log_dir) == [0]


def test_segments_that_are_not_archived_yet_are_deleted_too(log_dir: Path) -> None:
    segment = log_dir / "app-20261124T100000.000000Z-1.jsonl"
    write_log(segment, [Process().event(datetime(2026, 11, 24, 9, tzinfo=UTC))])
    prune(log_dir, 365, 1, today=TODAY)
    assert not segment.exists()


def test_nothing_goes_that_need_not(log_dir: Path) -> None:
    assert prune(log_dir, 10**9, 10**12, today=TODAY) == []
    assert len(days_kept(log_dir)) == 11


def test_a_dry_run_only_tells(log_dir: Path) -> None:
    told = prune(log_dir, 3, 10**12, today=TODAY, dry_run=True)
    assert [file.last_day.day for file in told] == [14, 15, 16, 17, 18, 19, 20]
    assert len(days_kept(log_dir)) == 11


def test_a_missing_folder_has_nothing_to_prune(tmp_path: Path) -> None:
    assert prune(tmp_path / "missing", 1, 1) == []
