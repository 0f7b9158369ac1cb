"""One request, one event: started, annotated, finished once, at the level that it deserves."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.events.conftest import Log, finish
from webapp.events import canonical

Open = Callable[..., canonical.RequestEvent]


def test_a_request_is_told_in_two_lines(full_log: Log, open_event: Open) -> None:
    event = open_event()
    event.start({"user_agent": "curl/8"})
    event.annotate(rows=3)
    canonical.annotate(model_id="m")
    finish(event, 200)
    started, completed = full_log.events()
    assert (
        started.items()
        >= {
            "message": "Request started",
            "event_type": "request_started",
            "level": "INFO",
            "logger": "webapp.request",
            "request_id": "request-0001",
            "user_agent": "curl/8",
        }.items()
    )
    assert (
        completed.items()
        >= {
            "message": "Request completed",
            "event_type": "request_completed",
            "level": "INFO",
            "logger": "webapp.request",
            "request_id": "request-0001",
            "status_code": 200,
            "rows": 3,
            "model_id": "m",
            "db_queries": 0,
            "db_duration": 0.0,
        }.items()
    )
    assert 0 <= completed["duration"] < 1


def test_a_request_finishes_once(full_log: Log, open_event: Open) -> None:
    event = open_event()
    for status in (200, 500, 200):
        finish(event, status)
    assert [line["status_code"] for line in full_log.events()] == [200]


@pytest.mark.parametrize(
    ("status", "internal", "slow", "level", "event_type"),
    [
        (200, False, False, "INFO", "request_completed"),
        (302, False, False, "INFO", "request_completed"),
        (200, False, True, "WARNING", "request_completed"),
        (400, False, False, "INFO", "request_completed"),
        (404, False, False, "INFO", "request_completed"),
        (404, False, True, "WARNING", "request_completed"),
        (401, False, False, "WARNING", "request_completed"),
        (403, False, False, "WARNING", "request_completed"),
        (429, False, False, "WARNING", "request_completed"),
        (500, False, False, "ERROR", "request_failed"),
        (503, False, False, "ERROR", "request_failed"),
        (507, False, True, "ERROR", "request_failed"),
        (200, True, False, "DEBUG", "request_completed"),
        (200, True, True, "WARNING", "request_completed"),
        (404, True, False, "INFO", "request_completed"),
        (403, True, False, "WARNING", "request_completed"),
        (503, True, False, "WARNING", "request_completed"),
        (500, True, False, "ERROR", "request_failed"),
    ],
)
def test_the_level_tells_whether_to_look(
    full_log: Log,
    open_event: Open,
    status: int,
    internal: bool,
    slow: bool,
    level: str,
    event_type: str,
) -> None:
    finish(open_event(internal=internal, slow_seconds=-1.0 if slow else 1.0), status)
    (line,) = full_log.events()
    assert (line["level"], line["event_type"]) == (level, event_type)
    assert line.get("internal", False) is internal


def test_a_failure_shows_its_exception(full_log: Log, open_event: Open) -> None:
    event = open_event()
    try:
        raise KeyError("missing")
    except KeyError as error:
        event.exception = error
    finish(event, 500)
    (failed,) = full_log.events()
    assert failed["exception_type"] == "KeyError"
    assert 'raise KeyError("missing")' in failed["exception"]


def test_nothing_annotated_replaces_what_was_measured(full_log: Log, open_event: Open) -> None:
    event = open_event()
    event.annotate(duration=99, db_queries=99, event_type="forged", request_id="forged", seq=99)
    finish(event, 200)
    (line,) = full_log.events()
    assert (line["event_type"], line["request_id"]) == ("request_completed", "request-0001")
    assert (line["db_queries"], line["seq"]) == (0, 1)
    assert line["duration"] < 1


def test_the_duration_is_that_of_the_request(full_log: Log, open_event: Open) -> None:
    event = open_event()
    time.sleep(0.05)
    seconds = finish(event, 200)
    (line,) = full_log.events()
    assert 0.05 <= line["duration"] < 0.5
    assert line["duration"] == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize(("times", "hinted"), [(4, False), (5, True), (30, True)])
def test_a_query_in_a_loop_is_hinted_at(
    full_log: Log, open_event: Open, times: int, hinted: bool
) -> None:
    event = open_event()
    event.note_query("SELECT other", 0.25)
    for _ in range(times):
        event.note_query("SELECT many " + "x" * 500, 0.5)
    finish(event, 200)
    (line,) = full_log.events()
    assert (line["db_queries"], line["db_duration"]) == (times + 1, times * 0.5 + 0.25)
    hint = {name: line[name] for name in line if name.startswith("db_repeated")}
    wanted: dict[str, Any] = {
        "db_repeated_query": ("SELECT many " + "x" * 500)[:200],
        "db_repeated_count": times,
    }
    assert hint == (wanted if hinted else {})


def test_outside_a_request_there_is_nothing_to_annotate() -> None:
    canonical.annotate(rows=3)
    assert canonical.current() is None
