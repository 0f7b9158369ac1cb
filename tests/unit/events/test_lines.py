"""What stands on every line, and how: the contract that grep and jq rely on."""

import logging
import os
import re
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.events.conftest import Log, finish
from webapp.events import canonical, schema
from webapp.events.formatter import JsonFormatter, describe_exception
from webapp.events.lines import FrequentLine

ALWAYS = {
    *("timestamp", "level", "logger", "message", "module", "function", "line", "event_type"),
    *("host", "pid", "seq"),
}


def test_a_line_begins_with_its_time_and_ends_with_its_number(log: Log) -> None:
    event = log.event("hello")
    assert next(iter(event)) == "timestamp"
    assert list(event)[-1] == "seq"
    assert set(event) == ALWAYS


def test_the_time_is_utc_with_microseconds_and_z(log: Log) -> None:
    before = datetime.now(UTC) - timedelta(microseconds=1)
    text = log.event("hello")["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert before <= datetime.fromisoformat(text) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("created", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1_700_000_000.5, "2023-11-14T22:13:20.500000Z"),
        (1_700_000_000.0078125, "2023-11-14T22:13:20.007812Z"),
        (1_700_000_000 + 2**-15, "2023-11-14T22:13:20.000030Z"),
        (1_700_000_000.9999998, "2023-11-14T22:13:20.999999Z"),
    ],
)
def test_the_time_is_when_the_record_was_made(created: float, text: str) -> None:
    record = logging.makeLogRecord({"created": created, "msg": ""})
    assert JsonFormatter().line(record).startswith(b'{"timestamp":"%s"' % text.encode())


def test_other_handlers_find_the_facts_of_a_frequent_line_among_its_attributes() -> None:
    logger, kept = logging.Logger("some.logger"), list[logging.LogRecord]()
    handler = logging.Handler()
    handler.emit = kept.append  # type: ignore[method-assign]
    logger.addHandler(handler)

    def tell() -> None:
        line.emit(logging.INFO, "Counted", {"event_type": "log"}, {"rows": 7}, ValueError("odd"))

    line = FrequentLine(logger, tell)
    tell()
    layout = logging.Formatter("%(levelname)s %(name)s %(funcName)s %(message)s %(rows)d")
    text = layout.format(kept[0])
    assert text.startswith("INFO some.logger tell Counted 7\nValueError: odd")
    assert logging.makeLogRecord(kept[0].__dict__).__dict__.items() >= {"rows": 7}.items()


def test_threads_with_records_of_different_seconds_do_not_mix_them_up() -> None:
    formatter, wrong = JsonFormatter(), []

    def format_many(second: int) -> None:
        record = logging.makeLogRecord({"created": float(second), "msg": ""})
        ours = b'"1970-01-01T00:00:%02d.' % second
        wrong.extend(ours for _ in range(3_000) if ours not in formatter.line(record))

    threads = [threading.Thread(target=format_many, args=(second,)) for second in (10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_line_is_compact_and_greppable(log: Log) -> None:
    log.logger.error("hello", extra={"action": "login", "email": "user@example.com", "n": [1, 2]})
    (line,) = log.lines()
    assert b'"level":"ERROR"' in line
    assert b'"action":"login"' in line
    assert b'"email":"user@example.com"' in line
    assert b'"n":[1,2]' in line


def test_a_line_says_where_it_came_from(log: Log) -> None:
    event = log.event("hello")
    assert event["module"] == "conftest"
    assert event["function"] == "event"
    assert event["line"] > 0
    assert (event["host"], event["pid"]) == (socket.gethostname(), os.getpid())
    assert event["logger"] == "tests.log"


def test_numbers_have_no_gap_also_between_threads(log: Log) -> None:
    def write() -> None:
        for _ in range(200):
            log.logger.info("hello")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event["seq"] for event in log.events()] == list(range(1, 801))


def test_inside_a_request_a_line_says_which(
    log: Log, open_event: Callable[..., canonical.RequestEvent]
) -> None:
    event = open_event()
    assert log.event("hello").items() >= event.context.items()
    event.identify("user-1", "admin")
    assert log.event("hello").items() >= {"user_id": "user-1", "role": "admin"}.items()
    canonical.leave()
    assert set(log.event("hello")) == ALWAYS


def test_our_own_events_use_the_fields_of_the_schema_only(
    full_log: Log, open_event: Callable[..., canonical.RequestEvent]
) -> None:
    event = open_event()
    event.start({"user_agent": "curl/8", "query_params": {"a": ["1"]}})
    for _ in range(canonical.REPEATED_QUERIES):
        event.note_query("SELECT 1", 0.01)
    event.annotate(error="KeyError", reason="why", model_id="m", rows=1, request_bytes=0)
    event.exception = KeyError("x")
    finish(event, 500)
    started, failed = full_log.events()
    assert {*started, *failed} <= schema.FIELD_NAMES
    assert "db_repeated_query" in failed


def test_every_field_is_named_once_and_explained() -> None:
    names = [field.name for field in schema.FIELDS]
    assert len(names) == len(set(names))
    assert all(field.meaning and field.on for field in schema.FIELDS)


def fail(message: str) -> None:
    """Raise, from a place of its own."""
    raise ValueError(message)


def fail_elsewhere() -> None:
    """Raise the same type from another place."""
    raise ValueError("elsewhere")


def fail_because_of(function: Callable[..., Any], *args: Any) -> None:
    """Raise one error for whatever a function raises."""
    try:
        function(*args)
    except ValueError as error:
        raise ValueError("it failed") from error


def described(function: Callable[..., Any], *args: Any) -> dict[str, str]:
    """Describe what a function raises."""
    try:
        function(*args)
    except ValueError as error:
        return describe_exception(error)
    raise AssertionError("it did not raise")


def test_a_fingerprint_groups_by_place_and_type_whatever_the_text_and_the_caller() -> None:
    def caller() -> None:
        fail("again")

    first = described(fail, "once")
    assert first["exception_type"] == "ValueError"
    assert "once" in first["exception"]
    assert re.fullmatch(r"[0-9a-f]{12}", first["fingerprint"])
    assert described(caller)["fingerprint"] == first["fingerprint"]
    assert described(fail_elsewhere)["fingerprint"] != first["fingerprint"]


def test_a_fingerprint_tells_apart_what_an_exception_was_raised_from() -> None:
    first = described(fail_because_of, fail, "sample 17")
    again = described(fail_because_of, fail, "sample 18")
    other = described(fail_because_of, fail_elsewhere)
    kind = described(fail_because_of, int, "seventeen")
    assert again["fingerprint"] == first["fingerprint"]
    assert len({each["fingerprint"] for each in (first, other, kind)}) == 3
    deeper = described(fail_because_of, fail_because_of, fail_elsewhere)
    assert deeper["fingerprint"] == other["fingerprint"]  # the root is the same


def test_causes_that_go_round_in_a_circle_have_a_fingerprint() -> None:
    error = ValueError("outer")
    error.__cause__ = inner = ValueError("inner")
    inner.__cause__ = error
    assert re.fullmatch(r"[0-9a-f]{12}", describe_exception(error)["fingerprint"])
