"""Answers that are remembered, and for how long."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.log_lines import START, Process, write_log
from webapp.logstore import queries
from webapp.logstore.caching import RecentAnswers
from webapp.logstore.files import Window
from webapp.logstore.reader import LogReader, LogReadError


def test_an_answer_is_at_most_two_seconds_old(tmp_path: Path) -> None:
    now = 100.0
    answers = RecentAnswers(LogReader(tmp_path), clock=lambda: now)
    process = Process()

    def request() -> None:
        write_log(tmp_path / "app.log", process.request(), "ab")

    request()
    assert answers.ask(queries.totals).total_requests == 1
    request()
    now += 1.9
    assert answers.ask(queries.totals).total_requests == 1
    now += 0.2
    assert answers.ask(queries.totals).total_requests == 2


def test_another_question_is_asked_anew(tmp_path: Path) -> None:
    answers = RecentAnswers(LogReader(tmp_path))
    events = [*Process(pid=1).request(user_id="ann"), *Process(pid=2).request(user_id="bob")]
    write_log(tmp_path / "app.log", events)
    assert answers.ask(queries.totals).total_requests == 2
    assert answers.ask(queries.totals, Window(until=START)).total_requests == 0
    mine = [answers.ask(queries.predictions, user)[1] for user in ("ann", "bob", None)]
    assert mine == [0, 0, 0]
    slow = [answers.ask(queries.slow_requests, user_id=user) for user in ("ann", "bob")]
    assert [[row.user_id for row in rows] for rows in slow] == [["ann"], ["bob"]]


def test_those_who_ask_at_once_wait_for_one_answer(tmp_path: Path) -> None:
    asked = []

    def question(reader: LogReader) -> int:
        asked.append(reader)
        time.sleep(0.1)
        return len(asked)

    answers = RecentAnswers(LogReader(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: answers.ask(question), range(4))) == [1, 1, 1, 1]


def test_a_question_that_failed_is_asked_anew(tmp_path: Path) -> None:
    failures = [LogReadError("the disk is away")]

    def question(reader: LogReader) -> str:
        if failures:
            raise failures.pop()
        return "fine"

    answers = RecentAnswers(LogReader(tmp_path))
    with pytest.raises(LogReadError):
        answers.ask(question)
    assert answers.ask(question) == "fine"
