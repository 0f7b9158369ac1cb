"""What was found lately: bounded in number and in age, for all threads of a process."""

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from cachetools import TTLCache

K = TypeVar("K")
V = TypeVar("V")

_MOST: Final = 10_000


class Remembered(Generic[K, V]):
    """Values by key, each for some seconds from when it was found."""

    def __init__(self, seconds: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._kept: TTLCache[K, V] = TTLCache(_MOST, seconds, timer)
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Find a value that is not too old."""
        with self._lock:
            try:
                return self._kept[key]  # the library's own `get` looks twice
            except KeyError:
                return None

    def put(self, key: K, value: V) -> None:
        """Remember a value from now on."""
        with self._lock:
            self._kept[key] = value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
