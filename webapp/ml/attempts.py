"""Who is in the hands of which model: shared memory that outlives a worker.

A worker that is killed or stalls cannot say why. Each of its threads therefore notes, before it
loads or asks a model, which one, in a row of its own in memory that the parent process shares; the
parent reads the rows of the worker that died. A note costs about a microsecond, and no system call.
"""

import mmap
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

# The digest of the model, and when it was begun, on the clock that all processes share.
_ROW: Final = struct.Struct("<32sd")
_NOBODY: Final = bytes(_ROW.size)


@dataclass(frozen=True)
class Attempt:
    """A model that a thread was in the hands of, and for how long."""

    digest: str
    seconds: float


class Attempts:
    """Rows for the threads of every worker; made before the workers are forked."""

    def __init__(self, workers: int, threads: int) -> None:
        self._threads = threads
        self._rows = mmap.mmap(-1, workers * threads * _ROW.size)
        self._local = threading.local()
        self._free = list(range(threads))
        self._slot = 0

    def use_slot(self, slot: int) -> None:
        """Write into the rows of a worker; called in the worker, after the fork."""
        self._slot = slot
        self._free = list(range(self._threads))
        self._local = threading.local()
        self.forget(slot)

    @contextmanager
    def note(self, digest: str) -> Iterator[None]:
        """Note that this thread is in the hands of a model."""
        place = self._place()
        if place is None:
            yield
            return
        self._rows[place : place + _ROW.size] = _ROW.pack(bytes.fromhex(digest), time.monotonic())
        try:
            yield
        finally:
            self._rows[place : place + _ROW.size] = _NOBODY

    def read(self, slot: int) -> list[Attempt]:
        """Return what the threads of a worker are doing, or were when it died."""
        now = time.monotonic()
        begin = slot * self._threads * _ROW.size
        rows = self._rows[begin : begin + self._threads * _ROW.size]
        return [
            Attempt(digest.hex(), now - since)
            for digest, since in _ROW.iter_unpack(rows)
            if since > 0
        ]

    def forget(self, slot: int) -> None:
        """Empty the rows of a worker that is gone or new."""
        begin = slot * self._threads * _ROW.size
        self._rows[begin : begin + self._threads * _ROW.size] = _NOBODY * self._threads

    def _place(self) -> int | None:
        number = getattr(self._local, "number", None)
        if number is None:
            if not self._free:
                return None  # more threads than the worker was said to have: no row, no note
            number = self._local.number = self._free.pop()
        return (self._slot * self._threads + int(number)) * _ROW.size


def share_of_blame(attempts: list[Attempt], least_seconds: float = 0.0) -> dict[str, float]:
    """Share one strike among the models that a dead worker was in the hands of.

    One suspect has it whole. Of several, each has a part, because an innocent model should not be
    quarantined for having been asked at the wrong moment twice. ``least_seconds`` leaves only those
    that were at it that long: the suspects of a worker that stalled.
    """
    suspects = {each.digest for each in attempts if each.seconds >= least_seconds}
    return {digest: 1 / len(suspects) for digest in suspects}
