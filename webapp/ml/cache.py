"""The models that a process holds in memory: bounded in bytes, each loaded once at a time."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from cachetools import LRUCache

from webapp.ml.predictor import Predictor


class PredictorCache:
    """Least recently used predictors, by digest and what else they depend on."""

    def __init__(self, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._kept: LRUCache[Hashable, Predictor] = LRUCache(
            max_bytes, lambda kept: kept.memory_bytes
        )
        self._loading: dict[Hashable, Future[Predictor]] = {}

    def get(self, key: Hashable, load: Callable[[], Predictor]) -> tuple[Predictor, bool, float]:
        """Return the predictor, whether it was there, and the seconds spent on loading it.

        A thread that asks for a model which another one is loading waits for that load, and
        shares its result or its error.
        """
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                return kept, True, 0.0
            future = self._loading.get(key)
            mine = future is None
            if future is None:
                future = self._loading[key] = Future()
        started = time.monotonic()
        if mine:
            self._run(key, future, load)
        return future.result(), False, time.monotonic() - started

    def discard(self, key: Hashable) -> None:
        """Forget a predictor; a load under way will not be kept either."""
        with self._lock:
            self._kept.pop(key, None)
            self._loading.pop(key, None)

    def _run(self, key: Hashable, future: Future[Predictor], load: Callable[[], Predictor]) -> None:
        try:
            predictor = load()
        except BaseException as error:  # whatever it is, the waiting threads must not hang
            self._finish(key, future, None)
            future.set_exception(error)
        else:
            self._finish(key, future, predictor)
            future.set_result(predictor)

    def _finish(
        self, key: Hashable, future: Future[Predictor], predictor: Predictor | None
    ) -> None:
        with self._lock:
            if self._loading.get(key) is not future:
                return
            del self._loading[key]
            # One that is larger than the whole cache is served and not kept.
            if predictor is not None and predictor.memory_bytes <= self._kept.maxsize:
                self._kept[key] = predictor
