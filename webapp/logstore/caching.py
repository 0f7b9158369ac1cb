"""A reader that remembers its answers for a moment, for pages that many people refresh."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from cachetools import TTLCache

from webapp.logstore.files import ALL_TIME, Snapshot, Window
from webapp.logstore.reader import LogReader, Row

# Longer, and a prediction could be missing from its user's list for all to see.
CACHE_SECONDS: Final = 2.0
_MOST_ANSWERS: Final = 64


class CachedReader(LogReader):
    """Answer the same question from memory for up to two seconds."""

    def __init__(self, log_dir: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(log_dir)
        self._answers: TTLCache[object, list[Row]] = TTLCache(_MOST_ANSWERS, CACHE_SECONDS, clock)
        self._answers_lock = threading.Lock()

    def rows(
        self,
        sql: str,
        parameters: Sequence[Any] = (),
        window: Window = ALL_TIME,
        *,
        extra: bool = False,
        snapshot: Snapshot | None = None,
    ) -> list[Row]:
        """Run a query on `events`, or remember what it gave a moment ago."""
        if snapshot is not None:
            return super().rows(sql, parameters, window, extra=extra, snapshot=snapshot)
        key = (sql, tuple(parameters), window, extra)
        with self._answers_lock:
            answer = self._answers.get(key)
        if answer is None:
            answer = super().rows(sql, parameters, window, extra=extra)
            with self._answers_lock:
                self._answers[key] = answer
        return answer
