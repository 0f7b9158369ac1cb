"""A log of its own for each test, and events that a test opens by itself."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from webapp.events import canonical
from webapp.events.rotation import SharedRotatingHandler
from webapp.events.schema import ACTIVE_NAME, SEGMENT_GLOB

Event = dict[str, Any]


def parse(line: bytes) -> Event:
    """Parse a line as strictly as any reader could: UTF-8, no NaN, no name twice, an object."""
    assert b"\n" not in line
    return dict(
        json.loads(line.decode(), object_pairs_hook=_without_repeats, parse_constant=_refuse)
    )


def _without_repeats(pairs: list[tuple[str, Any]]) -> Event:
    assert len(pairs) == len({name for name, _ in pairs}), "a name stands there twice"
    return dict(pairs)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


class Log:
    """A log folder, a logger that writes there, and what was counted."""

    def __init__(self, folder: Path, segment_bytes: int = 64 << 20) -> None:
        self.folder = folder
        self.active = folder / ACTIVE_NAME
        self.written: list[str] = []
        self.dropped: list[str] = []
        self.rotations: list[None] = []
        self.handler = SharedRotatingHandler(
            folder,
            segment_bytes,
            on_written=self.written.append,
            on_dropped=self.dropped.append,
            on_rotated=lambda: self.rotations.append(None),
        )
        self.logger = logging.Logger("tests.log")
        self.logger.addHandler(self.handler)

    @property
    def segments(self) -> list[Path]:
        """The closed files, the oldest first."""
        return sorted(self.folder.glob(SEGMENT_GLOB))

    def lines(self) -> list[bytes]:
        """Read all lines of all files."""
        files = [*self.segments, *([self.active] if self.active.exists() else [])]
        return [line for file in files for line in file.read_bytes().split(b"\n") if line]

    def events(self) -> list[Event]:
        """Parse all lines; each must be one."""
        return list(map(parse, self.lines()))

    def event(self, *args: Any, **options: Any) -> Event:
        """Log one record at INFO and parse the one line that it became."""
        before = len(self.lines())
        self.logger.info(*args, **options)
        (line,) = self.lines()[before:]
        return parse(line)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """A log that begins empty."""
    made = Log(tmp_path / "logs")
    yield made
    made.handler.close()


@pytest.fixture
def full_log(log: Log) -> Log:
    """The log, and every logger of the process writes there."""
    root = logging.getLogger()
    root.handlers[:] = [log.handler]  # an autouse fixture restores what was there
    root.setLevel(logging.DEBUG)
    return log


@pytest.fixture
def open_event() -> Iterator[Callable[..., canonical.RequestEvent]]:
    """Open the event of a request, as the hooks do."""

    def open_one(**options: Any) -> canonical.RequestEvent:
        context = {
            "request_id": "request-0001",
            "method": "GET",
            "path": "/a/b",
            "route": "/a/<x>",
            "client_ip": "10.0.0.1",
        }
        event = canonical.RequestEvent(context, **{"slow_seconds": 1.0, **options})
        canonical.enter(event)
        return event

    yield open_one
    canonical.leave()


@pytest.fixture
def in_child(tmp_path: Path) -> Callable[[Callable[[], None]], int]:
    """Run a function in a forked child and return its exit status."""

    def run(function: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                function()
            except BaseException as error:
                print(f"in the child: {error!r}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return run


def finish(event: canonical.RequestEvent, status_code: int) -> float:
    """Answer the request, and write its last line."""
    event.status_code = status_code
    return event.finish()
