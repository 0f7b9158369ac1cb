"""How long things take: operations by decorator, SQL by listener."""

import functools
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from sqlalchemy import Engine, ExceptionContext
from sqlalchemy import event as sqlalchemy_event

from webapp.errors import AppError
from webapp.events import canonical, schema

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
DEFAULT_SLOW_SECONDS: Final = 1.0
MAX_QUERY_CHARS: Final = 200
_NOTES: Final = {
    logging.DEBUG: (schema.LOG, "Finished"),
    logging.WARNING: (schema.SLOW_OPERATION, "Slow"),
    logging.ERROR: (schema.OPERATION_FAILED, "Failed"),
}

_slow_operation_seconds = DEFAULT_SLOW_SECONDS


def set_slow_operation_seconds(seconds: float) -> None:
    """Set from when on an operation counts as slow."""
    global _slow_operation_seconds
    _slow_operation_seconds = seconds


def log_performance(operation: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Time a function, coroutine function or generator function under this name.

    Its line is DEBUG when fast, WARNING when slow, ERROR with the traceback when it raises.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        wrapper: Any = _wrapper(function, functools.partial(_timed, operation, function))
        timed: Callable[P, R] = functools.wraps(function)(wrapper)
        return timed

    return decorate


def _wrapper(function: Any, timed: Callable[[], Any]) -> Any:
    """Make a function of the same kind that runs the function while it is timed."""

    async def asynchronous_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with timed():
            async with aclosing(function(*args, **kwargs)) as source:
                step = anext(source)
                # What `yield from` does: a generator may be sent values and exceptions, too.
                while True:
                    try:
                        item = await step
                    except StopAsyncIteration:
                        return
                    try:
                        step = source.asend((yield item))
                    except Exception as error:
                        step = source.athrow(error)

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        with timed():
            return await function(*args, **kwargs)

    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with timed():
            return (yield from function(*args, **kwargs))

    def plain(*args: Any, **kwargs: Any) -> Any:
        with timed():
            return function(*args, **kwargs)

    if inspect.isasyncgenfunction(function):
        return asynchronous_generator
    if inspect.iscoroutinefunction(function):
        return coroutine
    return generator if inspect.isgeneratorfunction(function) else plain


@contextmanager
def _timed(operation: str, function: Callable[..., Any]) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    except Exception as error:
        # What a caller did wrong is no failure of ours; its traceback would only hide those.
        if isinstance(error, AppError) and error.status < 500:
            _note_end(operation, function, started)
        else:
            _note(logging.ERROR, operation, function, started, exc_info=True)
        raise
    except BaseException:  # its consumer had enough, it was cancelled, or the process ends
        _note_end(operation, function, started)
        raise
    _note_end(operation, function, started)


def _note_end(operation: str, function: Callable[..., Any], started: float) -> None:
    slow = time.perf_counter() - started > _slow_operation_seconds
    _note(logging.WARNING if slow else logging.DEBUG, operation, function, started)


def _note(
    level: int, operation: str, function: Callable[..., Any], started: float, exc_info: bool = False
) -> None:
    event_type, verb = _NOTES[level]
    logger.log(
        level,
        f"{verb} {operation}",
        exc_info=exc_info,
        extra={
            "event_type": event_type,
            "operation": operation,
            "function": function.__qualname__,
            "duration": round(time.perf_counter() - started, 6),
        },
    )


def watch_queries(engine: Engine, slow_seconds: float) -> None:
    """Count and time the SQL of each request, and log what is slow: text, never parameters."""

    @sqlalchemy_event.listens_for(engine, "before_cursor_execute")
    def begin(
        conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if context is not None:
            context.pellucid_began = time.perf_counter()

    @sqlalchemy_event.listens_for(engine, "after_cursor_execute")
    def end(
        conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        _note_query(context, statement, slow_seconds)

    @sqlalchemy_event.listens_for(engine, "handle_error")
    def fail(failure: ExceptionContext) -> None:
        # A statement that waited for a lock and was given up is what made its request slow.
        _note_query(failure.execution_context, failure.statement or "", slow_seconds)


def _note_query(context: Any, statement: str, slow_seconds: float) -> None:
    began = getattr(context, "pellucid_began", None)
    if began is None:
        return
    context.pellucid_began = None  # fetching its rows may fail later
    duration = time.perf_counter() - began
    event = canonical.current()
    if event is not None:
        event.note_query(statement, duration)
    if duration > slow_seconds:
        logger.warning(
            "Slow database query",
            extra={
                "event_type": schema.SLOW_QUERY,
                "duration": round(duration, 6),
                "query": " ".join(statement.split())[:MAX_QUERY_CHARS],
            },
        )
