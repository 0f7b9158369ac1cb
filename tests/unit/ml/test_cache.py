import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from webapp.errors import ModelLoadError
from webapp.ml.cache import PredictorCache


def sized(size: int) -> Any:
    """Stand in for a predictor: the cache looks at its size only."""
    return SimpleNamespace(memory_bytes=size)


class Keeping:
    """A cache, and how its models are loaded."""

    def __init__(self, load: Callable[[str], Any], max_bytes: int = 100) -> None:
        self._cache = PredictorCache(max_bytes)
        self._load = load
        self.discard = self._cache.discard

    def get(self, digest: str) -> tuple[Any, bool, float]:
        return self._cache.get(digest, lambda: self._load(digest))


def make_cache(max_bytes: int = 100, size: int = 40) -> tuple[Keeping, list[str]]:
    loads: list[str] = []

    def load(digest: str) -> Any:
        loads.append(digest)
        return sized(size)

    return Keeping(load, max_bytes), loads


class Gate:
    """A load that lasts until the test lets it end."""

    def __init__(self, outcome: Callable[[str], Any]) -> None:
        self.outcome = outcome
        self.loads: list[str] = []
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, digest: str) -> Any:
        self.loads.append(digest)
        self.begun.release()
        assert self.open.wait(10)
        return self.outcome(digest)


def test_a_model_is_loaded_once_and_then_found() -> None:
    cache, loads = make_cache()
    first, hit, seconds = cache.get("a")
    assert (hit, seconds >= 0) == (False, True)
    assert cache.get("a") == (first, True, 0.0)
    assert loads == ["a"]


def test_the_least_recently_used_model_leaves_when_the_bytes_run_out() -> None:
    cache, loads = make_cache(max_bytes=100, size=40)
    for digest in ("a", "b", "a", "c", "a", "b"):
        cache.get(digest)
    assert loads == ["a", "b", "c", "b"]


def test_a_model_larger_than_the_cache_is_served_and_not_kept() -> None:
    cache, loads = make_cache(max_bytes=100, size=101)
    assert cache.get("a")[0].memory_bytes == 101
    cache.get("a")
    assert loads == ["a", "a"]


def test_a_discarded_model_is_loaded_again() -> None:
    cache, loads = make_cache()
    cache.get("a")
    cache.discard("a")
    cache.discard("unknown")
    cache.get("a")
    assert loads == ["a", "a"]


def test_threads_that_want_the_same_model_share_one_load() -> None:
    gate = Gate(lambda _digest: sized(1))
    cache = Keeping(gate)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(cache.get, "a") for _ in range(8)]
        gate.begun.acquire(timeout=10)
        gate.open.set()
        answers = [future.result(10) for future in waiting]
    assert gate.loads == ["a"]
    assert len({id(predictor) for predictor, _, _ in answers}) == 1


def test_different_models_load_side_by_side() -> None:
    gate = Gate(lambda _digest: sized(1))
    cache = Keeping(gate)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(cache.get, digest) for digest in "ab"]
        # Both are under way before either may end.
        assert all(gate.begun.acquire(timeout=10) for _ in "ab")
        gate.open.set()
        assert [future.result(10)[1] for future in waiting] == [False, False]


def test_every_waiting_thread_sees_a_failed_load_and_the_next_one_tries_again() -> None:
    def fail(_digest: str) -> Any:
        raise ModelLoadError("the stored file of this model is missing")

    gate = Gate(fail)
    cache = Keeping(gate)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(cache.get, "a") for _ in range(4)]
        gate.begun.acquire(timeout=10)
        gate.open.set()
        for future in waiting:
            with pytest.raises(ModelLoadError):
                future.result(10)
    gate.outcome = lambda _digest: sized(1)
    assert cache.get("a")[1] is False
    assert cache.get("a")[1] is True


def test_a_model_discarded_while_it_loads_is_not_kept() -> None:
    gate = Gate(lambda _digest: sized(1))
    cache = Keeping(gate)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.get, "a")
        gate.begun.acquire(timeout=10)
        cache.discard("a")
        gate.open.set()
        waiting.result(10)
    assert cache.get("a")[1] is False
    assert gate.loads == ["a", "a"]
