"""Which models a worker has in hand: notes in memory that outlive it.

A worker that is killed or stalls cannot say why. Each of its threads therefore notes, before it
loads or asks a model, which one and when, in memory that the master process shares; the master
reads the notes of a worker that died. A note is two copies of 40 bytes, and no system call.
"""

import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, Literal

# The digest of the model, and when it was begun, on the clock that all processes share.
_ROW: Final = struct.Struct("<32sd")
_EMPTY: Final = bytes(_ROW.size)


@dataclass(frozen=True)
class Attempt:
    """A model that a thread has in hand, and for how long."""

    digest: str
    seconds: float


@dataclass(frozen=True)
class Death:
    """How a worker ended, and the digests of the models that may have caused it."""

    reason: Literal["crashed", "stalled"]
    pid: int
    suspects: frozenset[str]


class Attempts:
    """The notes of one worker, a row for each thread; made by the master before it forks."""

    def __init__(self, threads: int) -> None:
        self._end = threads * _ROW.size
        self._rows = mmap.mmap(-1, self._end + 1)
        self._free = list(range(0, self._end, _ROW.size))

    @contextmanager
    def note(self, digest: str) -> Iterator[None]:
        """Note that this thread has a model in hand."""
        try:
            place = self._free.pop()
        except IndexError:  # a note is not worth failing a request, nor waiting
            yield
            return
        _ROW.pack_into(self._rows, place, bytes.fromhex(digest), time.monotonic())
        try:
            yield
        finally:
            self._rows[place : place + _ROW.size] = _EMPTY
            self._free.append(place)

    def read(self) -> list[Attempt]:
        """Return what the threads have in hand, or had when the worker died."""
        now = time.monotonic()
        return [
            Attempt(digest.hex(), now - since)
            for digest, since in _ROW.iter_unpack(self._rows[: self._end])
            if since > 0
        ]

    def end(self) -> None:
        """Note that the worker ends in order, whatever its threads still have in hand."""
        self._rows[self._end] = 1

    def find_death(self, pid: int, limit_seconds: float) -> Death | None:
        """Say which models the end of the worker may be due to; None after an orderly end.

        Whoever had more than the time allowed is to blame alone: that is what ended the worker, or
        kept it from ending.
        """
        attempts = self.read()
        late = frozenset(each.digest for each in attempts if each.seconds >= limit_seconds)
        if late:
            return Death("stalled", pid, late)
        if attempts and not self._rows[self._end]:
            return Death("crashed", pid, frozenset(each.digest for each in attempts))
        return None

    def watch(self, limit_seconds: float) -> None:
        """End this process once a model takes more than the time allowed.

        Nothing gentler stops native code that loops. Where that holds Python's lock, this thread
        does not get to run, but neither does the worker's heartbeat, and the master ends it.
        """

        def look() -> None:
            while all(each.seconds < limit_seconds for each in self.read()):
                time.sleep(min(1.0, limit_seconds / 4))
            os.abort()

        threading.Thread(target=look, name="model-watch", daemon=True).start()


_mine: Attempts | None = None


def use(attempts: Attempts) -> None:
    """Let this process take its notes there; without that it takes none."""
    global _mine
    _mine = attempts


def note(digest: str) -> AbstractContextManager[None]:
    """Note that this thread has a model in hand, for the time of a ``with`` block."""
    return nullcontext() if _mine is None else _mine.note(digest)
