"""How long things take: functions of every kind, and SQL."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, create_engine, text

from tests.unit.events.conftest import Event, Log, finish
from webapp.errors import InvalidInputError, PredictionError
from webapp.events import canonical, timing
from webapp.events.timing import log_performance, watch_queries


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_slow_operation_seconds", 0.05)


@log_performance("plain")
def plain(seconds: float, error: Exception | None = None) -> str:
    """Take some time, then answer or raise."""
    time.sleep(seconds)
    if error is not None:
        raise error
    return "answer"


@log_performance("coroutine")
async def coroutine(seconds: float, error: Exception | None = None) -> str:
    """Take some time, then answer or raise."""
    await asyncio.sleep(seconds)
    if error is not None:
        raise error
    return "answer"


@log_performance("generator")
def generator(seconds: float, error: Exception | None = None) -> Iterator[int]:
    """Take some time, then answer or raise."""
    yield 1
    time.sleep(seconds)
    yield 2
    if error is not None:
        raise error


@log_performance("async generator")
async def async_generator(seconds: float, error: Exception | None = None) -> AsyncIterator[int]:
    """Take some time, then answer or raise."""
    yield 1
    await asyncio.sleep(seconds)
    yield 2
    if error is not None:
        raise error


def run_coroutine(*args: Any) -> str:
    """Run the coroutine."""
    return asyncio.run(coroutine(*args))


def exhaust(*args: Any) -> list[int]:
    """Take all that the generator gives."""
    return list(generator(*args))


def exhaust_async(*args: Any) -> list[int]:
    """Take all that the asynchronous generator gives."""

    async def take() -> list[int]:
        return [item async for item in async_generator(*args)]

    return asyncio.run(take())


KINDS: list[tuple[str, Callable[..., Any], Any]] = [
    ("plain", plain, "answer"),
    ("coroutine", run_coroutine, "answer"),
    ("generator", exhaust, [1, 2]),
    ("async generator", exhaust_async, [1, 2]),
]


def only(log: Log) -> Event:
    """Get the one line about an operation."""
    (event,) = [event for event in log.events() if "operation" in event]
    return event


@pytest.mark.parametrize(("name", "call", "answer"), KINDS)
def test_what_is_fast_is_a_detail(
    full_log: Log, name: str, call: Callable[..., Any], answer: Any
) -> None:
    assert call(0) == answer
    event = only(full_log)
    assert (event["level"], event["event_type"]) == ("DEBUG", "log")
    assert (event["message"], event["operation"]) == (f"Finished {name}", name)
    assert event["function"] == name.replace(" ", "_")
    assert 0 <= event["duration"] < 0.05


@pytest.mark.parametrize(("name", "call", "answer"), KINDS)
def test_what_is_slow_is_a_warning(
    full_log: Log, name: str, call: Callable[..., Any], answer: Any
) -> None:
    assert call(0.06) == answer
    event = only(full_log)
    assert (event["level"], event["event_type"]) == ("WARNING", "slow_operation")
    assert event["message"] == f"Slow {name}"
    assert 0.06 <= event["duration"] < 0.5


@pytest.mark.parametrize(("name", "call", "answer"), KINDS)
@pytest.mark.parametrize("error", [ValueError("why"), PredictionError("why"), KeyError(1)])
def test_what_raises_is_an_error_and_still_raises(
    full_log: Log, name: str, call: Callable[..., Any], answer: Any, error: Exception
) -> None:
    with pytest.raises(type(error)) as raised:
        call(0, error)
    assert raised.value is error
    event = only(full_log)
    assert (event["level"], event["event_type"]) == ("ERROR", "operation_failed")
    assert event["message"] == f"Failed {name}"
    assert event["exception_type"].endswith(type(error).__name__)
    assert "raise error" in event["exception"]


def test_what_the_caller_did_wrong_is_no_failure(full_log: Log) -> None:
    for seconds in (0, 0.06):
        with pytest.raises(InvalidInputError):
            plain(seconds, InvalidInputError("row 3"))
    assert [event["level"] for event in full_log.events()] == ["DEBUG", "WARNING"]
    assert not any("exception" in event for event in full_log.events())


def test_the_same_failure_has_one_fingerprint_wherever_it_is_described(
    full_log: Log, open_event: Callable[..., canonical.RequestEvent]
) -> None:
    def view() -> None:
        plain(0, ValueError("why"))

    event = open_event()
    try:
        view()
    except ValueError as error:
        event.exception = error
    finish(event, 500)
    operation, request = full_log.events()
    assert operation["fingerprint"] == request["fingerprint"]


def test_operations_within_operations_are_timed_by_themselves(full_log: Log) -> None:
    @log_performance("outer")
    def outer() -> str:
        return plain(0)

    outer()
    assert [event["operation"] for event in full_log.events()] == ["plain", "outer"]


def test_a_stop_iteration_passes_through(full_log: Log) -> None:
    @log_performance("next")
    def following() -> Any:
        return next(iter(()))

    with pytest.raises(StopIteration):
        following()


def test_a_generator_that_nobody_reads_to_its_end_is_no_failure(full_log: Log) -> None:
    reader = generator(0)
    assert next(reader) == 1
    reader.close()
    assert only(full_log)["level"] == "DEBUG"


def test_a_slow_generator_that_nobody_reads_to_its_end_is_slow(full_log: Log) -> None:
    reader = generator(0.06)
    assert [next(reader), next(reader)] == [1, 2]
    reader.close()
    assert only(full_log)["level"] == "WARNING"


def test_a_generator_that_is_never_begun_leaves_no_line(full_log: Log) -> None:
    generator(0).close()
    assert full_log.lines() == []


def test_an_asynchronous_generator_is_closed_with_its_reader(full_log: Log) -> None:
    closed: list[str] = []

    @log_performance("numbers")
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("closed")

    async def read_one() -> None:
        async with contextlib.aclosing(numbers()) as reader:
            assert await anext(reader) == 1
        assert closed == ["closed"]

    asyncio.run(read_one())
    assert only(full_log)["level"] == "DEBUG"


def test_what_is_sent_or_thrown_into_a_generator_arrives(full_log: Log) -> None:
    arrived: list[Any] = []

    def body(value: Any) -> None:
        arrived.append(value)

    @log_performance("echo")
    def echo() -> Iterator[str]:
        try:
            body((yield "ready"))
            yield "sent"
        except ValueError as error:
            body(str(error))
            yield "thrown"

    @log_performance("async echo")
    async def async_echo() -> AsyncIterator[str]:
        try:
            body((yield "ready"))
            yield "sent"
        except ValueError as error:
            body(str(error))
            yield "thrown"

    reader: Any = echo()
    assert [next(reader), reader.send("a"), reader.throw(ValueError("b"))] == [
        *("ready", "sent", "thrown"),
    ]

    async def talk() -> list[str]:
        reader: Any = async_echo()
        said = [await anext(reader), await reader.asend("c"), await reader.athrow(ValueError("d"))]
        await reader.aclose()
        return said

    assert asyncio.run(talk()) == ["ready", "sent", "thrown"]
    assert arrived == ["a", "b", "c", "d"]


def test_a_cancelled_task_is_no_failure(full_log: Log) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(coroutine(10))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert only(full_log)["level"] == "DEBUG"


def test_a_decorated_function_keeps_its_name_and_kind() -> None:
    assert plain.__name__ == "plain"
    assert plain.__doc__
    assert asyncio.iscoroutinefunction(coroutine)


# SQL, on a real SQLite file


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    """A watched database with one table and a function that takes its time."""
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}", connect_args={"timeout": 0.3})

    @sqlalchemy.event.listens_for(engine, "connect")
    def add_sleep(connection: Any, record: Any) -> None:
        connection.create_function("sleep", 1, lambda seconds: time.sleep(seconds) or 1)

    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)"))
    watch_queries(engine, slow_seconds=0.1)
    yield engine
    engine.dispose()


def test_a_slow_query_is_logged_without_its_parameters(
    full_log: Log, database: Engine, open_event: Callable[..., canonical.RequestEvent]
) -> None:
    open_event()
    query = "SELECT   sleep(:seconds),\n :secret" + " -- comment" * 50
    with database.connect() as connection:
        connection.execute(text(query), {"seconds": 0.15, "secret": "a private note"})
        connection.execute(text("SELECT 1"))
    (event,) = full_log.events()
    assert (
        event.items()
        >= {
            "level": "WARNING",
            "message": "Slow database query",
            "event_type": "slow_query",
            "request_id": "request-0001",
        }.items()
    )
    assert 0.15 <= event["duration"] < 1
    assert event["query"].startswith("SELECT sleep(?), ? -- comment")
    assert len(event["query"]) == timing.MAX_QUERY_CHARS
    assert "private" not in str(event)


def test_a_request_counts_its_queries_and_their_time(
    full_log: Log, database: Engine, open_event: Callable[..., canonical.RequestEvent]
) -> None:
    event = open_event()
    with database.begin() as connection:
        for number in range(7):
            connection.execute(text("INSERT INTO notes (body) VALUES (:b)"), {"b": str(number)})
        connection.execute(text("SELECT sleep(0.02)"))
    finish(event, 200)
    completed = full_log.events()[-1]
    assert completed["db_queries"] == 8
    assert 0.02 <= completed["db_duration"] < 1
    assert completed["db_repeated_query"] == "INSERT INTO notes (body) VALUES (?)"
    assert completed["db_repeated_count"] == 7


def test_a_query_that_failed_after_a_long_wait_counts_too(
    full_log: Log,
    database: Engine,
    tmp_path: Path,
    open_event: Callable[..., canonical.RequestEvent],
) -> None:
    event = open_event()
    other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with (
        database.connect() as connection,
        pytest.raises(sqlalchemy.exc.OperationalError, match="locked"),
    ):
        connection.execute(text("INSERT INTO notes (body) VALUES ('x')"))
    other.close()
    finish(event, 503)
    slow, failed = full_log.events()
    assert slow["event_type"] == "slow_query"
    assert slow["query"].startswith("INSERT INTO notes")
    assert failed["db_queries"] == 1
    assert failed["db_duration"] >= 0.2


def test_queries_outside_a_request_are_watched_for_slowness_only(
    full_log: Log, database: Engine
) -> None:
    with database.connect() as connection:
        connection.execute(text("SELECT sleep(0.15)"))
        connection.execute(text("SELECT 1"))
    assert [event["event_type"] for event in full_log.events()] == ["slow_query"]
    assert logging.getLogger("sqlalchemy.engine").level == logging.NOTSET
