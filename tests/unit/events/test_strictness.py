"""One record is one line of strict JSON, whatever was put into it."""

import datetime as dt
import decimal
import enum
import logging
import time
import types
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.events.conftest import Event, Log, parse
from webapp.events import canonical
from webapp.events.formatter import JsonFormatter

MAX_BYTES = 64 * 1024
TEXTS = [
    'two\nlines"and a quote\\',
    "carriage\rreturn, line\u2028separator, paragraph\u2029, next\x85line",
    "NUL \x00, bell \x07, delete \x7f",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    '"}\n{"level":"ERROR","message":"forged"}\n',
    "\ud800 alone, \udcff from a file name",
    "näïve 日本 🎉",
    "%s %d {0}",
    "",
]


class Unspeakable:
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Surrogate:
    """Its text is not Unicode."""

    def __str__(self) -> str:
        return "\udc80"


class Recursive:
    """Its text is made of its text."""

    def __str__(self) -> str:
        return f"<{self!s}>"


class HostileText(str):
    """A text with methods of its own."""

    def encode(self, *args: Any) -> bytes:
        raise RuntimeError("no bytes")


class HostileDict(dict[str, Any]):
    """A mapping that does not give its items away."""

    def items(self) -> Any:
        raise RuntimeError("no items")


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"


@dataclass
class Point:
    """A dataclass with a value that JSON does not know."""

    x: float
    y: Any


def itself() -> dict[str, Any]:
    """Make a dict that contains itself, many times over."""
    made: dict[str, Any] = {}
    made.update({str(number): made for number in range(50)}, list=[made, made])
    return made


def nested(depth: int) -> list[Any]:
    """Make a list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


VALUES: dict[str, Any] = {
    "nan": float("nan"),
    "infinity": -float("inf"),
    "long integer": 10**9_999,
    "negative long integer": -(10**30),
    "just too long an integer": 2**64,
    "decimal": decimal.Decimal("1.10"),
    "complex": 1 + 2j,
    "bytes": b"\x00\xff text",
    "bytearray": bytearray(b"ab"),
    "memoryview": memoryview(b"ab"),
    "set": {1, "a", (2, 3)},
    "frozenset": frozenset({None}),
    "tuple": (1, (2, 3)),
    "deque": deque([1, 2]),
    "range": range(3),
    "generator": (number for number in range(3)),
    "ordered dict": OrderedDict(a=1),
    "mapping": types.MappingProxyType({"a": {1}}),
    "keys of other types": {1: "a", None: "b", (1, 2): "c", b"d": "d", 1.5: "e", Colour.RED: "f"},
    "a surrogate key": {"\ud800": 1},
    "enumeration": Colour.RED,
    "dataclass": Point(1.0, {2}),
    "uuid": uuid.UUID(int=7),
    "datetime": dt.datetime(2026, 1, 2, 3, 4, 5, 6),
    "aware datetime": dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    "date": dt.date(2026, 1, 2),
    "time": dt.time(1, 2),
    "timedelta": dt.timedelta(seconds=3),
    "numpy integer": np.int64(3),
    "numpy boolean": np.bool_(True),
    "numpy float": np.float32(1.5),
    "numpy nan": np.float64("nan"),
    "numpy half": np.float16(1.5),
    "numpy long double": np.longdouble(1),
    "numpy text": np.str_("a"),
    "numpy datetime": np.datetime64("2026-01-02T03:04:05"),
    "numpy not a time": np.datetime64("NaT"),
    "array": np.arange(4.0).reshape(2, 2),
    "array with nan": np.array([1.0, np.nan]),
    "array not in one piece": np.arange(6).reshape(2, 3).T,
    "array of objects": np.array([1, "a", None, {2}], dtype=object),
    "array of texts": np.array(["a", "b"]),
    "structured array": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
    "array without dimensions": np.array(5),
    "exception": ValueError("x"),
    "class": int,
    "function": len,
    "no text": Unspeakable(),
    "a text that is a surrogate": Surrogate(),
    "a text without end": Recursive(),
    "a text with methods": HostileText("\ud800"),
    "a dict with methods": HostileDict(a=Unspeakable()),
    "a dict that contains itself": itself(),
    "a deep list": nested(5_000),
    "a rather deep list": nested(200),
    "a dict with many keys": {f"key-{number}": number for number in range(100_000)},
    "a long list": list(range(100_000)),
    "a long text": "x" * 1_000_000,
    "a long text of controls": "\x00" * 1_000_000,
    "a long text outside ASCII": "🎉" * 100_000,
    **{f"text {number}": text for number, text in enumerate(TEXTS)},
}
TRUNCATED = {
    *("a dict that contains itself", "a deep list", "a dict with many keys", "a long list"),
    *("a long text", "a long text of controls", "a long text outside ASCII"),
}


@pytest.mark.parametrize("name", VALUES)
def test_any_value_becomes_one_valid_line(log: Log, name: str) -> None:
    value = VALUES[name]
    event = log.event("message", extra={"value": value, "details": {"inner": [value]}})
    assert event["message"].startswith("message")
    assert (event["level"], event["logger"], event["seq"]) == ("INFO", "tests.log", 1)
    assert len(log.lines()[0]) < MAX_BYTES
    assert event.get("truncated", False) is (name in TRUNCATED)


@pytest.mark.parametrize("name", VALUES)
def test_any_value_may_be_an_argument_or_the_message(log: Log, name: str) -> None:
    value = VALUES[name]
    for event in (log.event("value: %s", value), log.event(value), log.event("%d", value)):
        assert isinstance(event["message"], str)
    assert all(len(line) < MAX_BYTES for line in log.lines())


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (10**30, str(10**30)),
        ({1}, [1]),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (b"text", "text"),
        (dt.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05Z"),
        (np.int64(3), 3),
        (np.float32(1.5), 1.5),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]).T, [[1, 3], [2, 4]]),
        (np.array([1, "a"], dtype=object), [1, "a"]),
        ({1: 2}, {"1": 2}),
        ("\ud800", "\\ud800"),
    ],
)
def test_values_keep_their_type_and_meaning(log: Log, given: Any, written: Any) -> None:
    assert log.event("message", extra={"value": given})["value"] == written
    assert log.event("message", extra={"value": [given]})["value"] == [written]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_as_it_was(log: Log, text: str) -> None:
    written = text.encode("utf-8", "backslashreplace").decode()
    assert log.event(text, extra={"value": text})["message"] == written
    assert log.events()[-1]["value"] == written


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("%d rows", ("many",)),
        ("one %s", ("a", "b")),
        ("two %s %s", ("a",)),
        ("%(name)s", ({"other": 1},)),
        ("%", (1,)),
        ("%y", (1,)),
        ("%s", (Unspeakable(),)),
        ("%1000000000000s", ("x",)),
    ],
)
def test_a_wrong_format_loses_no_line(log: Log, message: str, args: tuple[Any, ...]) -> None:
    event = log.event(message, *args)
    assert message in event["message"]
    assert "could not be formatted" in event["message"]


OURS = {
    "timestamp": "1970-01-01T00:00:00.000000Z",
    "level": "DEBUG",
    "logger": "forged",
    "line": -1,
    "host": "forged",
    "pid": -1,
    "seq": -1,
}
CONTEXT = {"request_id": "forged-request", "method": "FORGED", "path": "/forged", "route": "forged"}


@pytest.mark.parametrize("as_key", [str, HostileText, str.encode])
def test_nothing_overwrites_who_wrote_a_line_and_when(
    log: Log, open_event: Callable[..., canonical.RequestEvent], as_key: Callable[[str], Any]
) -> None:
    open_event()
    before = log.event("honest")
    forged = {as_key(name): value for name, value in (OURS | CONTEXT).items()}
    event = log.event("message", extra={**forged, "value": Unspeakable(), "huge": 2**70})
    for name in (*CONTEXT, "level", "logger", "host", "pid"):
        assert event[name] == before[name], name
    assert event["seq"] == before["seq"] + 1
    assert event["timestamp"] >= before["timestamp"]
    assert event["line"] > 0


def test_a_key_that_only_reads_like_a_field_is_none(log: Log) -> None:
    class Name:
        def __str__(self) -> str:
            return "request_id"

    keys: Any = {Name(): "forged", b"event_type": "request_failed", 5: "kept"}
    event = log.event("message", extra=keys)
    assert "request_id" not in event
    assert event["event_type"] == "log"
    assert event["5"] == "kept"


def test_no_message_makes_a_second_record(log: Log) -> None:
    forged = '\n{"timestamp":"2026-01-01T00:00:00Z","level":"ERROR"}\n'
    log.logger.info(forged, extra={forged: forged, "details": {forged: [forged]}})
    try:
        raise ValueError(forged)
    except ValueError:
        log.logger.exception("failed")
    assert [event["level"] for event in log.events()] == ["INFO", "ERROR"]


def test_an_exception_of_any_kind_is_described(log: Log) -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def deep(n: int) -> None:
        deep(n + 1)

    loop: Exception = ValueError("a")
    loop.__cause__ = loop
    many: Exception = ValueError("0")
    for number in range(1_000):
        following = ValueError(str(number))
        following.__cause__ = many
        many = following
    for error in (
        OddError(),
        OddError("\ud800"),
        loop,
        many,
        ExceptionGroup("g", [KeyError("\n")]),
    ):
        log.logger.error("failed", exc_info=error)
    try:
        deep(0)
    except RecursionError:
        log.logger.exception("failed")
    kinds = [event["exception_type"].rpartition(".")[2] for event in log.events()]
    assert kinds[2:] == ["ValueError", "ValueError", "ExceptionGroup", "RecursionError"]
    assert all(event["exception"] and event["fingerprint"] for event in log.events())
    assert all(len(line) < MAX_BYTES for line in log.lines())


def test_exc_info_without_an_exception_is_no_exception(log: Log) -> None:
    assert "exception" not in log.event("message", exc_info=True)


def test_a_value_that_contains_itself_takes_no_time(log: Log) -> None:
    started = time.perf_counter()
    log.event("message", extra={"value": itself(), "password_hint": 1})
    assert time.perf_counter() - started < 1


def test_a_cut_line_keeps_what_says_whose_it_is(
    log: Log, open_event: Callable[..., canonical.RequestEvent]
) -> None:
    open_event()
    many = {f"field_{number}": "x" * 500 for number in range(2_000)}
    event = log.event("message", extra={**many, "model_id": "m"})
    assert event["truncated"] is True
    assert event["request_id"] == "request-0001"
    assert (event["model_id"], event["message"]) == ("m", "message")
    assert event["host"]
    assert event["pid"]
    assert list(event)[-1] == "seq"


def test_a_line_is_cut_only_when_it_must_be(log: Log) -> None:
    assert log.event("message", extra={"value": "x" * 64_000})["value"] == "x" * 64_000
    assert log.event("message", extra={"value": "x" * MAX_BYTES})["truncated"] is True


json_like = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=12,
)
any_text = st.text(st.characters(codec=None, categories=None))
# logging itself refuses an extra that has the name of what every record has.
refused = {*logging.makeLogRecord({}).__dict__, "message", "asctime"}
any_name = any_text.filter(lambda name: name not in refused)


def formatted(*args: Any, extra: dict[Any, Any]) -> Event:
    """Format one record."""
    record = logging.Logger("any").makeRecord(
        "any", logging.INFO, "file.py", 1, args[0], args[1:], None, extra=extra
    )
    return parse(JsonFormatter().format(record).encode())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(message=any_text, argument=json_like, extra=st.dictionaries(any_name, json_like, max_size=4))
def test_whatever_is_logged_is_one_line(message: str, argument: Any, extra: dict[str, Any]) -> None:
    extra = {name: value for name, value in extra.items() if name not in {"message", "asctime"}}
    event = formatted(message, argument, extra=extra)
    assert (event["level"], event["logger"], event["line"]) == ("INFO", "any", 1)
    assert next(iter(event)) == "timestamp"
