"""Gaps in the numbers of a process, and figures by file."""

from datetime import timedelta
from pathlib import Path

from tests.log_lines import START, Event, Process, to_line, traffic, write_log
from webapp.logstore.archive import archive_lock, archive_segments
from webapp.logstore.integrity import Check, stats, verify
from webapp.logstore.reader import LogReader

SEGMENT = "app-20261123T090000.000000Z-1.jsonl"


def life(count: int, begin: int = 0, pid: int = 1) -> list[Event]:
    """All lines of one process, a second apart."""
    process = Process(pid=pid)
    return [process.event(START + timedelta(seconds=begin + n)) for n in range(count)]


def processes(log_dir: Path) -> list[Check]:
    return [check for check in verify(LogReader(log_dir)) if check.kind == "process"]


def test_a_whole_log_lacks_nothing(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", traffic(300))
    found = processes(tmp_path)
    assert {check.name for check in found} == {f"web-1 pid {pid}" for pid in range(4711, 4715)}
    assert [(check.missing, check.duplicates, check.detail) for check in found] == [(0, 0, "")] * 4


def test_a_gap_is_counted_and_named(tmp_path: Path) -> None:
    events = life(20)
    write_log(tmp_path / "app.log", [e for e in events if e["seq"] not in (3, 7, 8, 9)])
    (check,) = processes(tmp_path)
    assert (check.missing, check.events) == (4, 16)
    assert check.detail == "missing seq 3, 7-9"


def test_a_gap_between_archive_and_lines_is_found(tmp_path: Path) -> None:
    events = life(20)
    write_log(tmp_path / SEGMENT, events[:10])
    with archive_lock(tmp_path):
        archive_segments(tmp_path)
    write_log(tmp_path / "app.log", events[11:])
    assert [check.missing for check in processes(tmp_path)] == [1]


def test_lines_of_two_processes_are_no_gap(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", [*life(3, pid=1), *life(5, pid=2)])
    assert [check.missing for check in processes(tmp_path)] == [0, 0]


def test_a_pid_that_is_used_again_begins_a_new_life(tmp_path: Path) -> None:
    first, second = life(5), life(9, begin=5)
    write_log(tmp_path / "app.log", first + second)
    found = processes(tmp_path)
    assert [(check.events, check.missing, check.duplicates) for check in found] == [
        (5, 0, 0),
        (9, 0, 0),
    ]


def test_a_gap_is_not_hidden_by_another_life_of_the_pid(tmp_path: Path) -> None:
    first, second = life(5), life(9, begin=5)
    write_log(tmp_path / "app.log", first + [e for e in second if e["seq"] != 3])
    assert [check.missing for check in processes(tmp_path)] == [0, 1]


def test_first_lines_that_threads_noted_out_of_order_belong_to_the_new_life(
    tmp_path: Path,
) -> None:
    first, second = life(5), life(3, begin=60)
    second[1]["timestamp"] = "2026-11-23T08:00:59.998000Z"  # noted before seq 1, written after
    write_log(tmp_path / "app.log", first + second)
    assert [(check.events, check.missing) for check in processes(tmp_path)] == [(5, 0), (3, 0)]


def test_a_log_whose_beginning_was_pruned_lacks_nothing(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", life(20)[10:])
    (check,) = processes(tmp_path)
    assert (check.missing, check.detail) == (0, "begins at seq 11")


def test_a_line_that_is_there_twice_is_told(tmp_path: Path) -> None:
    events = life(5)
    write_log(tmp_path / "app.log", [*events, events[2]])
    (check,) = processes(tmp_path)
    assert (check.missing, check.duplicates) == (0, 1)


def test_every_file_has_its_figures(tmp_path: Path) -> None:
    events = life(6)
    write_log(tmp_path / SEGMENT, events[:2])
    with archive_lock(tmp_path):
        archive_segments(tmp_path)
    segment = "app-20261123T100000.000000Z-1.jsonl"
    write_log(tmp_path / segment, events[2:4])
    data = b"".join(map(to_line, events[4:])) + b"torn"
    (tmp_path / "app.log").write_bytes(data)
    files = [check for check in verify(LogReader(tmp_path)) if check.kind != "process"]
    assert [(f.kind, f.name, f.events, f.invalid_lines) for f in files] == [
        ("archive", "app-20261123T090000.000000Z-1.1of1.parquet", 2, 0),
        ("segment", segment, 2, 0),
        ("active", "app.log", 2, 1),
    ]
    assert (files[2].bytes, files[2].first_seen, files[2].last_seen) == (
        len(data),
        events[4]["timestamp"],
        events[5]["timestamp"],
    )


def test_files_are_summed_up_by_kind(tmp_path: Path) -> None:
    for n in (1, 2):
        write_log(tmp_path / f"app-2026112{n}T100000.000000Z-1.jsonl", life(3, pid=n))
    (tmp_path / "app.log").write_bytes(b"garbage\n")
    found = {
        row.kind: (row.files, row.events, row.invalid_lines) for row in stats(LogReader(tmp_path))
    }
    assert found == {"segment": (2, 6, 0), "active": (1, 0, 1)}


def test_an_empty_log_has_nothing_to_check(tmp_path: Path) -> None:
    assert verify(LogReader(tmp_path)) == []
    assert stats(LogReader(tmp_path)) == []
