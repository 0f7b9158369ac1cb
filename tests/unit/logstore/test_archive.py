"""Closed segments become Parquet: whole, sorted, one place for each event."""

import fcntl
import os
import threading
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from tests.log_lines import START, Process, to_line, traffic, write_log
from webapp.events.schema import FIELDS
from webapp.logstore import archive as archive_module
from webapp.logstore.archive import (
    ArchiveBusyError,
    Archived,
    ArchiveError,
    archive_lock,
    archive_segments,
    start_archiver,
)
from webapp.logstore.files import open_snapshot
from webapp.logstore.reader import LogReader

SEGMENT = "app-20261123T090000.000000Z-4711.jsonl"
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)


def archive(log_dir: Path) -> list[Archived]:
    with archive_lock(log_dir):
        return archive_segments(log_dir)


def parquet(log_dir: Path) -> list[str]:
    return sorted(
        str(path.relative_to(log_dir / "archive")) for path in log_dir.glob("archive/*/*.parquet")
    )


def count(log_dir: Path) -> int:
    return int(LogReader(log_dir).rows("SELECT count(*) FROM events")[0][0])


def test_the_archive_is_not_for_everyone_to_read(tmp_path: Path) -> None:
    write_log(tmp_path / SEGMENT, traffic(10))
    before = os.umask(0o022)
    try:
        archive(tmp_path)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.glob("archive/**/*.parquet")}
    assert list(modes.values()) == [0o640]
    for folder in (tmp_path / "archive", *(path.parent for path in modes)):
        assert folder.stat().st_mode & 0o777 == 0o750


def test_a_segment_becomes_one_sorted_file(tmp_path: Path) -> None:
    events = list(traffic(400))
    write_log(tmp_path / SEGMENT, reversed(events))
    (archived,) = archive(tmp_path)
    assert (archived.segment, archived.events, archived.invalid_lines) == (SEGMENT, len(events), 0)
    assert archived.archive_bytes < archived.segment_bytes / 12
    name = "date=2026-11-23/app-20261123T090000.000000Z-4711.1of1.parquet"
    assert parquet(tmp_path) == [name]
    assert not (tmp_path / SEGMENT).exists()
    path = tmp_path / "archive" / name
    stored = duckdb.execute(f"SELECT timestamp FROM '{path}'").fetchall()
    assert stored == sorted(stored)
    columns = duckdb.execute(f"DESCRIBE SELECT * FROM read_parquet('{path}')").fetchall()
    expected = [(field.name, field.type) for field in FIELDS]
    assert [(name, kind) for name, kind, *_ in columns if name not in ("extra", "date")] == expected
    codecs = duckdb.execute(f"SELECT DISTINCT compression FROM parquet_metadata('{path}')")
    assert codecs.fetchall() == [("ZSTD",)]


def test_a_segment_of_two_days_is_split_by_day(tmp_path: Path) -> None:
    process = Process()
    moments = [MIDNIGHT - timedelta(seconds=1), MIDNIGHT]
    write_log(tmp_path / SEGMENT, [process.event(moment) for moment in moments])
    archive(tmp_path)
    stem = SEGMENT.removesuffix(".jsonl")
    assert parquet(tmp_path) == [
        f"date=2026-11-23/{stem}.1of2.parquet",
        f"date=2026-11-24/{stem}.2of2.parquet",
    ]
    assert count(tmp_path) == 2


def test_the_active_file_is_left_alone(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", traffic(10))
    assert archive(tmp_path) == []
    assert (tmp_path / "app.log").exists()


def test_lines_that_are_no_events_are_kept_and_counted(tmp_path: Path) -> None:
    first, second = (to_line(Process(seq=n).event(START)) for n in (0, 1))
    data = b"torn {\n\n" + first + b"\x00\x00\n   \n\xff broken\n" + second + b'{"half": '
    (tmp_path / SEGMENT).write_bytes(data)
    (archived,) = archive(tmp_path)
    assert (archived.events, archived.invalid_lines) == (2, 4)
    assert count(tmp_path) == 2
    (path,) = tmp_path.glob("archive/*/*.parquet")
    kept = duckdb.execute(f"SELECT message FROM '{path}' WHERE timestamp IS NULL").fetchall()
    assert {text for (text,) in kept} == {"torn {", "\x00\x00", "\\xff broken", '{"half": '}


def test_a_segment_without_any_event_keeps_its_lines_under_the_day_it_was_closed(
    tmp_path: Path,
) -> None:
    (tmp_path / SEGMENT).write_bytes(b"garbage\n" * 2500)
    (archived,) = archive(tmp_path)
    assert (archived.events, archived.invalid_lines) == (0, 2500)
    assert [name[:15] for name in parquet(tmp_path)] == ["date=2026-11-23"]


def test_an_empty_segment_just_goes(tmp_path: Path) -> None:
    (tmp_path / SEGMENT).write_bytes(b"\n\n")
    (archived,) = archive(tmp_path)
    assert archived.events == 0
    assert list(tmp_path.glob("*.jsonl")) == []
    assert parquet(tmp_path) == []


def test_a_complete_archive_counts_instead_of_its_segment(tmp_path: Path) -> None:
    # Killed before the segment was deleted.
    write_log(tmp_path / SEGMENT, traffic(20))
    whole = (tmp_path / SEGMENT).read_bytes()
    events = count(tmp_path)
    archive(tmp_path)
    (tmp_path / SEGMENT).write_bytes(whole)
    assert count(tmp_path) == events
    assert archive(tmp_path) == []
    assert not (tmp_path / SEGMENT).exists()
    assert count(tmp_path) == events


def test_an_incomplete_archive_counts_for_nothing_beside_its_segment(tmp_path: Path) -> None:
    process = Process()
    moments = [MIDNIGHT - timedelta(seconds=1), MIDNIGHT]
    write_log(tmp_path / SEGMENT, [process.event(moment) for moment in moments])
    whole = (tmp_path / SEGMENT).read_bytes()
    archive(tmp_path)
    (tmp_path / SEGMENT).write_bytes(whole)
    (tmp_path / "archive" / parquet(tmp_path)[1]).unlink()
    assert count(tmp_path) == 2
    archive(tmp_path)
    assert count(tmp_path) == 2
    assert len(parquet(tmp_path)) == 2


def test_what_is_left_of_a_pruned_archive_still_counts(tmp_path: Path) -> None:
    process = Process()
    moments = [MIDNIGHT - timedelta(seconds=1), MIDNIGHT]
    write_log(tmp_path / SEGMENT, [process.event(moment) for moment in moments])
    archive(tmp_path)
    (tmp_path / "archive" / parquet(tmp_path)[0]).unlink()
    assert count(tmp_path) == 1


def test_a_segment_that_cannot_be_converted_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"app-2026112{n}T090000.000000Z-1.jsonl" for n in (1, 2, 3)]
    for name in names:
        write_log(tmp_path / name, traffic(5))
    load = archive_module._load

    def fail_on_second(database: object, raw: object) -> tuple[int, int]:
        if raw.path.name == names[1]:  # type: ignore[attr-defined]
            raise OSError(28, "No space left on device")
        return load(database, raw)  # type: ignore[arg-type]

    monkeypatch.setattr(archive_module, "_load", fail_on_second)
    events = count(tmp_path)
    with pytest.raises(ArchiveError, match=f"{names[1]}: .*No space left"):
        archive(tmp_path)
    assert [path.name for path in tmp_path.glob("*.jsonl")] == [names[1]]
    assert count(tmp_path) == events


def test_a_third_archiver_leaves_the_work_to_the_one_that_waits(tmp_path: Path) -> None:
    order: list[str] = []

    def wait_for_the_lock() -> None:
        with archive_lock(tmp_path):
            order.append("second")

    second = threading.Thread(target=wait_for_the_lock)
    with archive_lock(tmp_path):
        second.start()
        while not is_locked(tmp_path / "archive" / ".waiting"):
            time.sleep(0.01)
        with pytest.raises(ArchiveBusyError), archive_lock(tmp_path):
            order.append("third")
        order.append("first")
    second.join()
    assert order == ["first", "second"]


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_the_child_archives_and_prunes(tmp_path: Path) -> None:
    today = datetime.now(UTC)
    old = f"app-{date(2020, 1, 1):%Y%m%d}T090000.000000Z-1.jsonl"
    new = f"app-{today:%Y%m%d}T000000.000000Z-1.jsonl"
    write_log(tmp_path / old, [Process().event(datetime(2020, 1, 1, tzinfo=UTC))])
    write_log(tmp_path / new, [Process(pid=2).event(today)])
    threads = set(threading.enumerate())
    start_archiver(tmp_path, retention_days=30, max_bytes=2**30)
    (waiter,) = set(threading.enumerate()) - threads
    waiter.join(60)
    assert [name[:15] for name in parquet(tmp_path)] == [f"date={today:%Y-%m-%d}"]
    assert list(tmp_path.glob("*.jsonl")) == []


def test_a_snapshot_taken_before_archiving_still_reads_everything(tmp_path: Path) -> None:
    write_log(tmp_path / SEGMENT, traffic(20))
    write_log(tmp_path / "app.log", [Process(pid=9).event(START)])
    events = count(tmp_path)
    reader = LogReader(tmp_path)
    with open_snapshot(tmp_path) as snapshot:
        (tmp_path / "app.log").rename(tmp_path / "app-20261123T100000.000000Z-9.jsonl")
        archive(tmp_path)
        (found,) = reader.rows("SELECT count(*) FROM events", snapshot=snapshot)
    assert found == (events,)
    assert count(tmp_path) == events
