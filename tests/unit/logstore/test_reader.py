"""The view `events`: what it makes of lines, also of those that nobody should have written."""

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from tests.log_lines import START, Process, to_line, traffic, write_log
from webapp.logstore.archive import archive_lock, archive_segments
from webapp.logstore.files import Window, open_snapshot
from webapp.logstore.reader import LogReader, LogReadError, parse_window

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def lines(count: int, **fields: object) -> list[bytes]:
    process = Process()
    return [to_line(process.event(START + timedelta(seconds=n), **fields)) for n in range(count)]


def write(log_dir: Path, data: bytes, name: str = "app.log") -> LogReader:
    (log_dir / name).write_bytes(data)
    return LogReader(log_dir)


def archive(log_dir: Path) -> None:
    with archive_lock(log_dir):
        archive_segments(log_dir)


def seqs(reader: LogReader) -> list[int]:
    return [seq for (seq,) in reader.rows("SELECT seq FROM events ORDER BY seq")]


def test_lines_become_typed_rows(tmp_path: Path) -> None:
    event = Process().event(START, duration=0.25, cache_hit=True, details={"a": [1]}, rows=7)
    reader = write(tmp_path, to_line(event))
    sql = "SELECT timestamp, level, duration, cache_hit, details->>'$.a[0]', rows FROM events"
    assert reader.rows(sql) == [(START.replace(tzinfo=None), "INFO", 0.25, True, "1", 7)]


def test_an_event_comes_back_as_it_was_written(tmp_path: Path) -> None:
    event = Process().event(START, duration=0.25, details={"a": [1]}, reason='"quoted"\n\u20ac')
    assert write(tmp_path, to_line(event)).events() == [event]


def test_a_missing_folder_and_an_empty_one_hold_nothing(tmp_path: Path) -> None:
    assert seqs(LogReader(tmp_path / "missing")) == []
    assert seqs(LogReader(tmp_path)) == []


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    assert seqs(write(tmp_path, b"")) == []


def test_a_torn_last_line_hides_no_other(tmp_path: Path) -> None:
    first, second, third = lines(3)
    assert seqs(write(tmp_path, first + second + third[: len(third) // 2])) == [1, 2]


def test_the_line_after_a_torn_one_is_read(tmp_path: Path) -> None:
    first, second, third = lines(3)
    assert seqs(write(tmp_path, first + second[:40] + b"\n" + third)) == [1, 3]


def test_glued_lines_lose_themselves_and_no_other(tmp_path: Path) -> None:
    first, second, third, fourth = lines(4)
    assert seqs(write(tmp_path, first + second.rstrip() + third + fourth)) == [1, 4]


@pytest.mark.parametrize(
    "foreign",
    [
        b"Traceback (most recent call last):\n",
        b"\x00" * 5000 + b"\n",
        b"\xff\xfe not UTF-8 \x80\n",
        b'[1,2]\n12\n"text"\nnull\ntrue\n',
        b"\n  \n\r\n",
        b'{"timestamp":"yesterday","seq":9}\n',
        b'{"timestamp":"20000-01-01T00:00:00Z","seq":9}\n',
        b'{"timestamp":"infinity","seq":9}\n',
        b'{"timestamp":null,"seq":9}\n',
        b'{"seq":9}\n',
        b'{"timestamp":"2026-11-23T08:00:00Z","message":"\\ud800"}\n',
    ],
    ids=lambda data: repr(data[:24]),
)
def test_text_that_is_no_event_is_passed_over(tmp_path: Path, foreign: bytes) -> None:
    first, second = lines(2)
    assert seqs(write(tmp_path, first + foreign + second)) == [1, 2]


def test_a_hole_left_by_a_power_failure_hides_no_line(tmp_path: Path) -> None:
    hole = b"\x00" * 17 * 2**20  # longer than DuckDB takes an object to be
    first, second = lines(2)
    assert seqs(write(tmp_path, first + hole)) == [1]
    assert seqs(write(tmp_path, first + hole + b"\n" + second)) == [1, 2]


def test_a_value_of_the_wrong_type_costs_its_field_alone(tmp_path: Path) -> None:
    good = Process().event(START, duration=0.5, status_code=200, cache_hit=True)
    bad = good | {"duration": "slow", "status_code": {"a": 1}, "cache_hit": "maybe", "seq": 2}
    reader = write(tmp_path, to_line(good) + to_line(bad))
    sql = "SELECT seq, duration, status_code, cache_hit FROM events ORDER BY seq"
    assert reader.rows(sql) == [(1, 0.5, 200, True), (2, None, None, None)]


def test_a_field_that_first_appears_late_is_found(tmp_path: Path) -> None:
    early = lines(30_000)
    late = to_line(Process(seq=30_000).event(START, fingerprint="abc"))
    reader = write(tmp_path, b"".join(early) + late)
    assert reader.rows("SELECT seq FROM events WHERE fingerprint = 'abc'") == [(30_001,)]


def test_a_zone_other_than_z_is_honoured(tmp_path: Path) -> None:
    event = Process().event(START) | {"timestamp": "2026-11-23T10:00:00.000000+02:00"}
    reader = write(tmp_path, to_line(event))
    assert reader.rows("SELECT timestamp FROM events") == [(datetime(2026, 11, 23, 8, 0),)]


def test_fields_outside_the_table_are_in_extra(tmp_path: Path) -> None:
    plain = Process().event(START)
    strange = Process(seq=1).event(START, colour="red", Level="loud", nested={"a": None})
    reader = write(tmp_path, b"garbage\n" + to_line(plain) + b"garbage\n" + to_line(strange))
    assert reader.events() == [plain, strange]
    found = reader.rows("SELECT extra->>'$.colour' FROM events WHERE extra IS NOT NULL", extra=True)
    assert found == [("red",)]


def test_the_same_rows_come_from_lines_and_from_the_archive(tmp_path: Path) -> None:
    events = [*traffic(300), Process(pid=1).event(START, colour="red")]
    write_log(tmp_path / "app-20261123T090000.000000Z-1.jsonl", events)
    reader = LogReader(tmp_path)
    from_lines = reader.events(order="host, pid, seq")
    archive(tmp_path)
    assert reader.events(order="host, pid, seq") == from_lines
    assert len(from_lines) == len(events)


def test_an_archive_of_another_version_is_still_read(tmp_path: Path) -> None:
    folder = tmp_path / "archive" / "date=2026-11-23"
    folder.mkdir(parents=True)
    duckdb.execute(
        f"COPY (SELECT TIMESTAMP '2026-11-23 08:00:00' AS timestamp, 'INFO' AS level,"
        f" '7' AS rows, 1 AS unheard_of) TO '{folder}/old.parquet' (FORMAT parquet)"
    )
    write_log(tmp_path / "app.log", [Process().event(START, rows=3, level="ERROR")])
    rows = LogReader(tmp_path).rows("SELECT level, rows + 1, message FROM events ORDER BY rows")
    assert rows == [("ERROR", 4, "Worker ready"), ("INFO", 8, None)]


def test_a_window_includes_its_start_and_not_its_end(tmp_path: Path) -> None:
    reader = write(tmp_path, b"".join(lines(5)))
    window = Window(START + timedelta(seconds=1), START + timedelta(seconds=3))
    assert [seq for (seq,) in reader.rows("SELECT seq FROM events", (), window)] == [2, 3]


def test_a_window_reads_only_the_days_it_touches(tmp_path: Path) -> None:
    for day in ("2026-11-22", "2026-11-23", "2026-11-24"):
        (tmp_path / "archive" / f"date={day}").mkdir(parents=True)
        (tmp_path / "archive" / f"date={day}" / "x.parquet").touch()
    with open_snapshot(tmp_path, Window(START, START + timedelta(hours=1))) as snapshot:
        assert [path.parent.name for path in snapshot.parquet] == ["date=2026-11-23"]
    with open_snapshot(tmp_path, Window(until=START)) as snapshot:
        days = [path.parent.name for path in snapshot.parquet]
        assert days == ["date=2026-11-22", "date=2026-11-23"]


def test_a_file_that_vanishes_while_it_is_read_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path / "app-20261123T090000.000000Z-1.jsonl", traffic(20))
    archive(tmp_path)
    write_log(tmp_path / "app.log", [Process().event(START)])
    reader = LogReader(tmp_path)
    (archived,) = tmp_path.glob("archive/*/*.parquet")
    whole = LogReader._cursor

    def prune_then_read(self: LogReader) -> object:
        archived.unlink(missing_ok=True)
        return whole(self)

    monkeypatch.setattr(LogReader, "_cursor", prune_then_read)
    assert seqs(reader) == [1]


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "archive" / "date=2026-11-23"
    folder.mkdir(parents=True)
    (folder / "damaged.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(LogReadError, match=r"damaged\.parquet"):
        seqs(LogReader(tmp_path))


def test_threads_read_at_once(tmp_path: Path) -> None:
    reader = write(tmp_path, b"".join(lines(2000)))
    counts: list[int] = []

    def count() -> None:
        counts.extend(n for (n,) in reader.rows("SELECT count(*) FROM events"))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [2000] * 8


def test_a_forked_child_reads_with_a_connection_of_its_own(tmp_path: Path) -> None:
    reader = write(tmp_path, b"".join(lines(3)))
    assert seqs(reader) == [1, 2, 3]
    pid = os.fork()
    if pid == 0:
        os._exit(len(seqs(reader)))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


@pytest.mark.parametrize("text", ["/etc/passwd", "../outside.txt", "link.txt"])
def test_nothing_outside_the_log_folder_can_be_read(tmp_path: Path, text: str) -> None:
    log_dir = tmp_path / "logs"
    log_dir.mkdir()
    (tmp_path / "outside.txt").write_text("secret")
    (log_dir / "link.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(LogReadError, match="Cannot access"):
        LogReader(log_dir).rows("SELECT * FROM read_text(?)", [str(log_dir / text)])


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("15m", NOW - timedelta(minutes=15)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T10:00:00Z", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20T10:00:00+02:00", datetime(2026, 11, 20, 8, tzinfo=UTC)),
        (None, None),
    ],
)
def test_a_time_is_read(text: str | None, moment: datetime | None) -> None:
    assert parse_window(text, None, NOW).since == moment


@pytest.mark.parametrize("text", ["soon", "15", "m", "15 minutes", "2026-13-01", "-5m", "9" * 30])
def test_a_bad_time_is_answered_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write 15m, 2h, 7d or 2026"):
        parse_window(text, None, NOW)


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="window is empty"):
        parse_window("1h", "2h", NOW)


def test_more_days_than_there_were_are_a_bad_time() -> None:
    with pytest.raises(ValueError, match="write 15m"):
        parse_window("999999w", None, NOW)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_no_clock_shows_in_utc_is_a_bad_time(text: str) -> None:
    for since, until in ((text, None), (None, text)):
        with pytest.raises(ValueError, match="write 15m"):
            parse_window(since, until, NOW)


def test_a_bad_time_is_named_and_not_repeated() -> None:
    for since, until, name in (("MySecret", None, "since"), (None, "MySecret", "until")):
        with pytest.raises(ValueError, match=f"^{name} is not a time; ") as refusal:
            parse_window(since, until, NOW)
        assert "MySecret" not in str(refusal.value)
