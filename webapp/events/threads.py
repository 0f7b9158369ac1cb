"""Threads that a request starts belong to it: they inherit its context."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final

_thread_start: Final = threading.Thread.start
_pool_submit: Final = ThreadPoolExecutor.submit


def inherit_context() -> None:
    """Let every thread and every task of a pool run in a copy of its starter's context.

    Python does so by itself for asyncio only (and for threads from 3.14 on, when asked to). Doing
    it here, once, covers libraries too: joblib's threads are started through these two.
    """
    threading.Thread.start = _start  # type: ignore[method-assign]  # the purpose of this module
    ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign,assignment]


def forget_context() -> None:
    """Undo ``inherit_context``."""
    threading.Thread.start = _thread_start  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = _pool_submit  # type: ignore[method-assign]


def _start(self: threading.Thread) -> None:
    context, run = copy_context(), self.run
    self.run = lambda: context.run(run)  # type: ignore[method-assign]
    _thread_start(self)


def _submit(self: ThreadPoolExecutor, function: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
    return _pool_submit(self, copy_context().run, function, *args, **kwargs)
