"""Writing to stdout and stderr without ever waiting for their reader."""

import logging
import os
import select
import stat
import sys
from typing import Any, Final

import click
import orjson

from webapp.events.formatter import JsonFormatter

STDOUT: Final = 1
STDERR: Final = 2
_COLOURS: Final = {"DEBUG": "bright_black", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_FLAGS: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_reopened: dict[tuple[int, int, int], int] = {}


def write_if_room(descriptor: int, data: bytes) -> bool:
    """Write a line to stdout or stderr unless that would block; tell whether it was written."""
    try:
        fd = _nonblocking(descriptor)
        if fd is None and not select.select([], [descriptor], [], 0)[1]:
            return False
        return os.write(descriptor if fd is None else fd, data) == len(data)
    except (OSError, ValueError):  # closed, full, gone: a copy is not worth a failure
        return False


def _nonblocking(descriptor: int) -> int | None:
    """Find a descriptor of the same pipe or terminal that never blocks.

    A pipe whose reader has stopped is full after 64 KiB, and the next write to it would wait for
    ever. Non-blocking mode belongs to the open file, which other processes share, so the pipe is
    opened anew. A socket cannot be opened anew; there the caller asks before it writes.
    """
    opened = os.fstat(descriptor)
    if stat.S_ISREG(opened.st_mode):
        return descriptor
    key = (os.getpid(), opened.st_dev, opened.st_ino)
    if key not in _reopened:
        try:
            _reopened[key] = os.open(f"/proc/self/fd/{descriptor}", _FLAGS)
        except OSError:
            return None
    return _reopened[key]


class StreamHandler(logging.Handler):
    """Copy records to stdout or stderr: short coloured lines for people, or JSON."""

    def __init__(self, descriptor: int, *, json: bool) -> None:
        super().__init__()
        self._formatter = JsonFormatter()
        self._json = json
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record if there is room; the file has it in any case."""
        line = self._formatter.line(record)
        if not self._json:
            line = _short(orjson.loads(line)).encode()
        write_if_room(self._descriptor, line + b"\n")


def stdout_handler(mode: str) -> logging.Handler:
    """Make the handler that the setting LOG_STDOUT asks for."""
    if mode == "json":
        return StreamHandler(STDOUT, json=True)
    if mode == "auto" and sys.stdout is not None and sys.stdout.isatty():
        return StreamHandler(STDOUT, json=False)
    return logging.NullHandler()


def _short(event: dict[str, Any]) -> str:
    """Say an event in a short line: time, level, message, and what tells it from its like."""
    names = ("method", "path", "status_code", "duration", "reason", "error", "request_id")
    facts = " ".join(str(event[name]) for name in names if event.get(name) is not None)
    level = click.style(f"{event['level']:<8}", fg=_COLOURS.get(event["level"]))
    text = f"{event['timestamp'][11:23]} {level} {_printable(event['message'])}"
    line = f"{text}  {click.style(_printable(facts), dim=True)}" if facts else text
    if "exception" in event:
        line += "\n" + "\n".join(map(_printable, event["exception"].split("\n")))
    return line


def _printable(text: str) -> str:
    """Escape control characters, which a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
