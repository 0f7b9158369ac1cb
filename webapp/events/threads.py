"""Threads that a request starts belong to it: their records carry its context."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from webapp.events import canonical

_thread_start: Final = threading.Thread.start
_pool_submit: Final = ThreadPoolExecutor.submit


def inherit_context() -> None:
    """Let every thread and every task of a pool work for the request that started it.

    Doing it here, once, covers libraries too: joblib's threads are started through these two.
    Only the event goes along and not the whole context of the starter, which holds Flask's as
    well: two threads would share one database session and never know.
    """
    threading.Thread.start = _start  # type: ignore[method-assign]  # the purpose of this module
    ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign,assignment]


def forget_context() -> None:
    """Undo ``inherit_context``."""
    threading.Thread.start = _thread_start  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = _pool_submit  # type: ignore[method-assign]


def _start(self: threading.Thread) -> None:
    event, run = canonical.current(), self.run

    def run_for_event() -> None:
        del self.run  # a thread that refers to itself would outlive its end
        canonical.enter(event)
        run()

    if event is not None:
        self.run = run_for_event  # type: ignore[method-assign]
    _thread_start(self)


def _submit(self: ThreadPoolExecutor, function: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
    return _pool_submit(self, _run_for_event, canonical.current(), function, *args, **kwargs)


def _run_for_event(
    event: canonical.RequestEvent | None, function: Any, /, *args: Any, **kwargs: Any
) -> Any:
    # Set even if there is none: the thread may have been started by a request's first task.
    canonical.enter(event)
    try:
        return function(*args, **kwargs)
    finally:
        canonical.leave()
