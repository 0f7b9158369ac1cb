"""The models that a process holds in memory: bounded in bytes, each loaded once at a time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from cachetools import LRUCache

from webapp.ml.predictor import Predictor


class PredictorCache:
    """Least recently used predictors, by digest."""

    def __init__(self, max_bytes: int, load: Callable[[str], Predictor]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._kept: LRUCache[str, Predictor] = LRUCache(max_bytes, lambda kept: kept.memory_bytes)
        self._loading: dict[str, Future[Predictor]] = {}

    def get(self, digest: str) -> tuple[Predictor, bool, float]:
        """Return the predictor, whether it was there, and the seconds spent on loading it.

        A thread that asks for a model which another one is loading waits for that load, and
        shares its result or its error.
        """
        with self._lock:
            kept = self._kept.get(digest)
            if kept is not None:
                return kept, True, 0.0
            future = self._loading.get(digest)
            mine = future is None
            if future is None:
                future = self._loading[digest] = Future()
        started = time.monotonic()
        if mine:
            self._run(digest, future)
        return future.result(), False, time.monotonic() - started

    def discard(self, digest: str) -> None:
        """Forget a predictor; a load under way will not be kept either."""
        with self._lock:
            self._kept.pop(digest, None)
            self._loading.pop(digest, None)

    def _run(self, digest: str, future: Future[Predictor]) -> None:
        try:
            predictor = self._load(digest)
        except BaseException as error:  # whatever it is, the waiting threads must not hang
            self._finish(digest, future, None)
            future.set_exception(error)
        else:
            self._finish(digest, future, predictor)
            future.set_result(predictor)

    def _finish(self, digest: str, future: Future[Predictor], predictor: Predictor | None) -> None:
        with self._lock:
            if self._loading.get(digest) is not future:
                return
            del self._loading[digest]
            # One that is larger than the whole cache is served and not kept.
            if predictor is not None and predictor.memory_bytes <= self._kept.maxsize:
                self._kept[digest] = predictor
