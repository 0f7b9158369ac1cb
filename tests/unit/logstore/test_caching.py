"""Answers that are remembered, and for how long."""

from pathlib import Path

from tests.log_lines import START, Process, write_log
from webapp.logstore import queries
from webapp.logstore.caching import CachedReader
from webapp.logstore.files import Window


def test_an_answer_is_at_most_two_seconds_old(tmp_path: Path) -> None:
    now = 100.0
    reader = CachedReader(tmp_path, clock=lambda: now)
    process = Process()

    def request() -> None:
        write_log(tmp_path / "app.log", process.request(), "ab")

    request()
    assert queries.totals(reader).total_requests == 1
    request()
    now += 1.9
    assert queries.totals(reader).total_requests == 1
    now += 0.2
    assert queries.totals(reader).total_requests == 2


def test_another_question_is_asked_anew(tmp_path: Path) -> None:
    reader = CachedReader(tmp_path)
    events = [*Process(pid=1).request(user_id="ann"), *Process(pid=2).request(user_id="bob")]
    write_log(tmp_path / "app.log", events)
    assert queries.totals(reader).total_requests == 2
    assert queries.totals(reader, Window(until=START)).total_requests == 0
    mine = [queries.predictions(reader, user)[1] for user in ("ann", "bob", None)]
    assert mine == [0, 0, 0]
    slow = [queries.slow_requests(reader, user_id=user) for user in ("ann", "bob")]
    assert [[row.user_id for row in rows] for rows in slow] == [["ann"], ["bob"]]


def test_a_story_is_never_old(tmp_path: Path) -> None:
    reader = CachedReader(tmp_path)
    assert queries.request_story(reader, "request-0001") == []
    write_log(tmp_path / "app.log", Process().request())
    assert len(queries.request_story(reader, "request-0001")) == 1
