"""Prometheus metrics, counted beside the log for live scraping, over all workers."""

import os
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from threading import RLock
from typing import Final

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    mmap_dict,
    multiprocess,
    values,
)

MULTIPROC_DIR: Final = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
_slot = "main"
Count = Callable[[float], None]
# The library's lock, too. A finaliser may log, and so count, in the middle of counting: it must not
# wait for itself.
_counting: Final = RLock()


def use_slot(slot: int) -> None:
    """Count in the files of this worker slot.

    Files go by slot and not by pid, so that a worker continues the files of the one that it
    replaces: no counter falls, and no files pile up.
    """
    global _slot
    _slot = str(slot)
    list(LOG_RECORDS_DROPPED.collect())  # being read, the library's values move to the new files


class ReservedDict(mmap_dict.MmapedDict):
    """The library's mapped file, with its blocks reserved before they are written.

    It leaves holes in the file. On a full disk the first write into one ends the process (SIGBUS),
    and so would the next worker's. What finds no room here is kept in memory and written later.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if not read_mode:
            with open(filename, "ab") as file:
                os.posix_fallocate(file.fileno(), 0, mmap_dict._INITIAL_MMAP_SIZE)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        self._map_doubles()

    def close(self) -> None:
        """Close the file."""
        self.doubles.release()
        super().close()  # type: ignore[no-untyped-call]

    def read_value(self, key: str) -> tuple[float, float]:
        """Read a value and its time, from 0 on if there is no room for it."""
        with suppress(OSError):
            found: tuple[float, float] = super().read_value(key)  # type: ignore[no-untyped-call]
            return found
        return 0.0, 0.0

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Write a value, or leave that to its next change if there is no room for it."""
        with suppress(OSError):
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        needed, reserved = self._used + len(key.encode()) + 32, self._capacity
        while needed > reserved:
            reserved *= 2
        if reserved > self._capacity:
            os.posix_fallocate(self._f.fileno(), 0, reserved)
        super()._init_value(key)  # type: ignore[no-untyped-call]
        if self.doubles.obj is not self._m:  # the library mapped a longer file
            self._map_doubles()

    def _map_doubles(self) -> None:
        # Each value lies at a multiple of its 8 bytes, and is written so that no reader sees it
        # half done.
        self.doubles = memoryview(self._m).cast("d")


values.Lock = lambda: _counting  # type: ignore[attr-defined,assignment,return-value]
values.MmapedDict = ReservedDict  # type: ignore[attr-defined]
if MULTIPROC_DIR:

    class SlotValue(values.MultiProcessValue(lambda: _slot)):  # type: ignore[misc]
        """The library's mapped value, which does not ask at each change whose files these are."""

        def inc(self, amount: float) -> None:
            """Add to the value, in memory and in the file."""
            with _counting:
                self._value += amount
                file = self._file
                place = file._positions.get(self._key)
                if place is None:
                    file.write_value(self._key, self._value, 0.0)
                else:  # as nearly always
                    file.doubles[place // 8] = self._value

    # Chosen before the first metric exists; the library's default goes by pid.
    values.ValueClass = SlotValue


class QuickHistogram(Histogram):
    """The library's histogram, which does not try one bound after the other.

    Nor does it ask at each amount whether it has all its labels.
    """

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Count an amount in its bucket, and sum it up."""
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


REQUEST_SECONDS: Final = QuickHistogram(
    "http_server_request_duration_seconds",
    "Time to answer a request.",
    ["route", "method", "status"],
)
PREDICTIONS: Final = Counter("pellucid_predictions", "Predictions asked for.", ["model", "outcome"])
PREDICTION_ROWS: Final = Counter("pellucid_prediction_rows", "Rows predicted.", ["model"])
PREDICTION_SECONDS: Final = QuickHistogram(
    "pellucid_prediction_duration_seconds", "Time in the estimator.", ["model"]
)
MODEL_LOAD_SECONDS: Final = QuickHistogram(
    "pellucid_model_load_duration_seconds", "Time to load a model.", ["outcome"]
)
LOG_RECORDS: Final = Counter("pellucid_log_records", "Lines written to the log.", ["level"])
LOG_RECORDS_DROPPED: Final = Counter(
    "pellucid_log_records_dropped", "Lines that could not be written to the log."
)

# Opens the file of the histograms while the program starts, which may fail; a request may not.
MODEL_LOAD_SECONDS.labels("success")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def observe_request(route: str, method: str, status_code: int, seconds: float) -> None:
    """Count a request; labels are bounded: a client's own words are not among them."""
    known = method if method in _METHODS else "OTHER"
    _of_requests(route, known, status_code // 100).observe(seconds)


def observe_prediction(model: str, rows: int, seconds: float) -> None:
    """Count a prediction that succeeded, its rows and its time in the estimator."""
    count, count_rows, duration = _of_predictions(model)
    count(1)
    count_rows(rows)
    duration.observe(seconds)


def count_failed_prediction(model: str) -> None:
    """Count a prediction that failed; an unknown model counts under an empty name."""
    PREDICTIONS.labels(model, "failure").inc()


def count_log_record(level: str) -> None:
    """Count a line that was written."""
    _of_records(level)(1)


def count_dropped_log_record(level: str) -> None:
    """Count a line that was lost to the log."""
    LOG_RECORDS_DROPPED.inc()


# To find a metric's child, and to ask it whether it may be counted, is three times the price of
# counting. So what counts is found once.
@cache
def _of_requests(route: str, method: str, status_class: int) -> Histogram:
    return REQUEST_SECONDS.labels(route, method, f"{status_class}xx")


@cache
def _of_predictions(model: str) -> tuple[Count, Count, Histogram]:
    predictions, rows = PREDICTIONS.labels(model, "success"), PREDICTION_ROWS.labels(model)
    return predictions._value.inc, rows._value.inc, PREDICTION_SECONDS.labels(model)


@cache
def _of_records(level: str) -> Count:
    count: Count = LOG_RECORDS.labels(level)._value.inc
    return count


def exposition() -> bytes:
    """Write the metrics of all workers in Prometheus' text format."""
    return generate_latest(_registry())


def dropped_log_records() -> int:
    """Sum the lines lost by all workers since the start."""
    return int(_registry().get_sample_value("pellucid_log_records_dropped_total") or 0)


def _registry() -> CollectorRegistry:
    if not MULTIPROC_DIR:
        return REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
