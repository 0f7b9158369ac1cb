"""The end of the log, and what is added to it, across rotations."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.log_lines import START, Event, Process, to_line, write_log
from webapp.logstore.archive import archive_lock, archive_segments
from webapp.logstore.tail import Tail


class Log:
    """A folder to which a writer appends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = Process()
        self.rotations = 0

    def write(self, count: int) -> None:
        events = [
            self.process.event(START + timedelta(seconds=self.process.seq)) for _ in range(count)
        ]
        write_log(self.folder / "app.log", events, "ab")

    def rotate(self) -> Path:
        self.rotations += 1
        name = f"app-20261123T09000{self.rotations}.000000Z-1.jsonl"
        return (self.folder / "app.log").rename(self.folder / name)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


@pytest.fixture
def tail(log: Log) -> Iterator[Tail]:
    """A tail that began when five lines were there."""
    log.write(5)
    tail = Tail(log.folder)
    yield tail
    tail.close()


def seqs(events: Iterator[Event] | list[Event]) -> list[int]:
    return [event["seq"] for event in events]


def test_the_newest_come_in_order(tail: Tail) -> None:
    assert seqs(tail.newest(3)) == [3, 4, 5]
    assert seqs(tail.newest(99)) == [1, 2, 3, 4, 5]
    assert tail.newest(0) == []


def test_the_newest_reach_back_into_segments_and_the_archive(log: Log) -> None:
    log.write(2)
    log.rotate()
    with archive_lock(log.folder):
        archive_segments(log.folder)
    log.write(2)
    log.rotate()
    log.write(1)
    tail = Tail(log.folder)
    assert [seqs(tail.newest(count)) for count in (1, 2, 4, 9)] == [
        [5],
        [4, 5],
        [2, 3, 4, 5],
        [1, 2, 3, 4, 5],
    ]
    tail.close()


def test_lines_longer_than_a_block_are_read_whole(log: Log) -> None:
    events = [Process(seq=n).event(START, message="x" * 60_000) for n in range(5)]
    write_log(log.folder / "app.log", events)
    tail = Tail(log.folder)
    assert seqs(tail.newest(4)) == [2, 3, 4, 5]
    tail.close()


def test_what_is_added_is_told_once(log: Log, tail: Tail) -> None:
    assert seqs(tail.added()) == []
    log.write(2)
    assert seqs(tail.added()) == [6, 7]
    assert seqs(tail.added()) == []


def test_a_line_is_told_when_it_is_complete(log: Log, tail: Tail) -> None:
    line = to_line(log.process.event(START))
    with (log.folder / "app.log").open("ab") as file:
        file.write(line[:30])
        file.flush()
        assert seqs(tail.added()) == []
        file.write(line[30:])
    assert seqs(tail.added()) == [6]


def test_rotations_are_followed(log: Log, tail: Tail) -> None:
    log.write(1)
    log.rotate()
    assert seqs(tail.added()) == [6]
    log.write(1)
    assert seqs(tail.added()) == [7]
    for _ in range(3):
        log.write(1)
        log.rotate()
    log.write(1)
    assert seqs(tail.added()) == [8, 9, 10, 11]
    assert seqs(tail.added()) == []


def test_a_file_moved_away_by_someone_else_is_followed(log: Log, tail: Tail) -> None:
    log.write(1)
    (log.folder / "app.log").rename(log.folder / "app.log.1")
    log.write(1)
    assert seqs(tail.added()) == [6, 7]


def test_lines_that_are_no_events_are_told_as_they_are(log: Log, tail: Tail) -> None:
    with (log.folder / "app.log").open("ab") as file:
        file.write(b'{"timestamp":"2026-11-2\n\nSegmentation fault \xff\n')
    log.write(1)
    torn, foreign, event = tail.added()
    assert torn == {"raw": '{"timestamp":"2026-11-2'}
    assert foreign == {"raw": "Segmentation fault \ufffd"}
    assert event["seq"] == 6
    with closing(Tail(log.folder)) as another:
        assert another.newest(3) == [torn, foreign, event]


def test_a_truncated_file_is_read_from_its_start(log: Log, tail: Tail) -> None:
    (log.folder / "app.log").write_bytes(b"")
    log.write(1)
    assert seqs(tail.added()) == [6]


def test_a_log_that_begins_later_is_followed(log: Log) -> None:
    tail = Tail(log.folder)
    assert tail.newest(5) == []
    assert seqs(tail.added()) == []
    log.write(1)
    assert seqs(tail.added()) == [1]
    tail.close()
