"""Threads and tasks that a request starts carry its context; nothing else does."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from multiprocessing.pool import ThreadPool

import pytest
from joblib import Parallel, delayed

from webapp.events import canonical, threads

Open = Callable[..., canonical.RequestEvent]


@pytest.fixture(autouse=True)
def _inheriting() -> Iterator[None]:
    threads.inherit_context()
    yield
    threads.forget_context()


def request_id(_: object = None) -> str | None:
    """Tell whose work this thread does."""
    event = canonical.current()
    return event.context["request_id"] if event else None


def in_thread(function: Callable[[], object]) -> object:
    """Run a function in a new thread and return its result."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_a_thread_belongs_to_the_request_that_starts_it(open_event: Open) -> None:
    open_event()
    assert in_thread(request_id) == "request-0001"
    assert in_thread(lambda: in_thread(request_id)) == "request-0001"


def test_a_thread_that_no_request_starts_belongs_to_none(open_event: Open) -> None:
    assert in_thread(request_id) is None
    open_event()
    canonical.leave()
    assert in_thread(request_id) is None


def test_a_thread_keeps_its_request_when_that_has_ended(open_event: Open) -> None:
    open_event()
    ended, results = threading.Event(), []
    thread = threading.Thread(target=lambda: results.append(ended.wait(5) and request_id()))
    thread.start()
    canonical.leave()
    ended.set()
    thread.join()
    assert results == ["request-0001"]


def test_a_thread_does_not_change_its_starter(open_event: Open) -> None:
    open_event()
    in_thread(canonical.leave)
    assert request_id() == "request-0001"


def test_tasks_of_a_pool_belong_to_whoever_submits_them(open_event: Open) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(request_id).result() is None
        first = open_event()
        assert pool.submit(request_id).result() == "request-0001"
        first.context["request_id"] = "request-0002"
        assert list(pool.map(request_id, range(3))) == ["request-0002"] * 3
        canonical.leave()
        assert pool.submit(request_id).result() is None


def test_a_pool_begun_by_a_request_is_not_its_own(open_event: Open) -> None:
    open_event()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(request_id).result() == "request-0001"
        canonical.leave()
        assert pool.submit(request_id).result() is None


def test_a_task_gets_its_arguments_and_its_failure_comes_back(open_event: Open) -> None:
    def fail(event: int, *, function: int) -> None:
        raise ValueError(event, function)

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match=r"\(1, 2\)"):
        pool.submit(fail, 1, function=2).result()


def test_joblibs_threads_belong_to_the_request(open_event: Open) -> None:
    open_event()
    found = Parallel(n_jobs=2, backend="threading")(delayed(request_id)() for _ in range(8))
    assert found == ["request-0001"] * 8
    with ThreadPool(2) as pool:
        assert pool.map(request_id, range(4)) == ["request-0001"] * 4


def test_asynchronous_tasks_belong_to_the_request(open_event: Open) -> None:
    open_event()

    async def both() -> list[str | None]:
        async def own() -> str | None:
            return request_id()

        loop = asyncio.get_running_loop()
        return [await asyncio.create_task(own()), await loop.run_in_executor(None, request_id)]

    assert asyncio.run(both()) == ["request-0001"] * 2


def test_nothing_but_the_event_is_handed_over(open_event: Open) -> None:
    other: ContextVar[str] = ContextVar("other", default="none")
    open_event()
    other.set("a database session, say")
    assert in_thread(other.get) == "none"


def test_a_thread_that_ended_is_forgotten(open_event: Open) -> None:
    open_event()
    thread = threading.Thread(target=request_id)
    thread.start()
    thread.join()
    gone = weakref.ref(thread)
    gc.disable()
    try:
        del thread
        assert gone() is None
    finally:
        gc.enable()


def test_a_class_with_a_run_of_its_own_works(open_event: Open) -> None:
    class Worker(threading.Thread):
        found: str | None = None

        def run(self) -> None:
            self.found = request_id()

    open_event()
    worker = Worker()
    worker.start()
    worker.join()
    assert worker.found == "request-0001"
