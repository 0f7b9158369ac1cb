"""What was added to the live log since a place, for those who ask again and again."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.log_lines import START, Process, to_line, write_log
from webapp.logstore import follow
from webapp.logstore.filters import parse_filters
from webapp.logstore.reader import LogReader

ALL = parse_filters(())


class Log:
    """A live log that grows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "app.log"
        self.reader = LogReader(folder)
        self.process = Process()
        self.write()

    def write(self, **fields: object) -> None:
        moment = START + timedelta(seconds=self.process.seq)
        write_log(self.path, [self.process.event(moment, **fields)], "ab")

    def added(self, place: str, *expressions: str) -> tuple[list[int] | None, str]:
        found = follow.added(self.reader, place, parse_filters(expressions))
        events = found.events
        return None if events is None else [event["seq"] for event in events], found.place


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_what_was_added_is_told_once(log: Log) -> None:
    place = follow.end_of_log(log.folder)
    assert log.added(place) == ([], place)
    log.write()
    log.write()
    seqs, place = log.added(place)
    assert seqs == [2, 3]
    assert log.added(place) == ([], place)


@pytest.mark.parametrize(
    ("expressions", "seqs"),
    [
        (["level>=warning"], [3]),
        (["duration>0.5"], [3, 4]),
        (["message~WORKER", "rows=1"], [2]),
        (["extra.colour=blue"], [4]),
        (["details.size=7"], [4]),
        (["timestamp>2026-11-23T08:00:02Z"], [4]),
        (["internal!=true"], [2, 3, 4]),
        (["user_id=nobody"], []),
    ],
)
def test_filters_mean_what_they_mean_in_a_search(
    log: Log, expressions: list[str], seqs: list[int]
) -> None:
    place = follow.end_of_log(log.folder)
    log.write(rows=1, duration=0.5)
    log.write(level="ERROR", duration=0.6, message="No")
    log.write(duration=2, colour="blue", details={"size": 7})
    assert log.added(place, *expressions)[0] == seqs
    searched = log.reader.events(
        parse_filters(tuple(expressions)).sql, parse_filters(tuple(expressions)).parameters
    )
    assert [event["seq"] for event in searched if event["seq"] > 1] == seqs


def test_half_a_line_waits_for_its_end(log: Log) -> None:
    place = follow.end_of_log(log.folder)
    line = to_line(log.process.event(START))
    for part, expected in ((line[:30], []), (line[30:], [2])):
        with log.path.open("ab") as file:
            file.write(part)
        seqs, place = log.added(place)
        assert seqs == expected


def test_after_a_rotation_one_has_to_search_anew(log: Log) -> None:
    place = follow.end_of_log(log.folder)
    log.path.rename(log.folder / "app-20261123T080000.000000Z-4711.jsonl")
    assert log.added(place) == (None, "0-0")
    log.write()
    seqs, place = log.added("0-0")
    assert seqs is None
    log.write()
    assert log.added(place)[0] == [3]


def test_too_much_at_once_is_not_read(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    place = follow.end_of_log(log.folder)
    monkeypatch.setattr(follow, "_MOST_BYTES", 100)
    log.write()
    assert log.added(place)[0] is None


def test_a_line_that_is_no_event_is_passed_over(log: Log) -> None:
    place = follow.end_of_log(log.folder)
    with log.path.open("ab") as file:
        file.write(b"torn \xff line\n[1]\n")
    log.write()
    assert log.added(place, "level=info")[0] == [2]


@pytest.mark.parametrize("place", ["", "1", "x-1", "1-2-3", "-1-2"])
def test_a_made_up_place_is_refused(log: Log, place: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int's and the tuple's own words
        log.added(place)


def test_a_folder_without_a_log_has_nothing_to_tell(tmp_path: Path) -> None:
    assert follow.end_of_log(tmp_path) == "0-0"
    assert follow.added(LogReader(tmp_path), "0-0", ALL) == follow.Added([], "0-0")
