"""Writing to stdout and stderr without ever waiting for their reader."""

import logging
import os
import select
import socket
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
_Key = tuple[int, int, int]
_reopened: dict[_Key, int] = {}
_torn: set[_Key] = set()  # where a line was taken in part


def write_if_room(descriptor: int, data: bytes) -> bool:
    """Write a line to stdout or stderr unless that would block; tell whether it was written."""
    try:
        opened = os.fstat(descriptor)
        key = (os.getpid(), opened.st_dev, opened.st_ino)
        if key in _torn:
            data = b"\n" + data
        written = _write_now(descriptor, opened.st_mode, key, data)
    except (OSError, ValueError):  # closed, full, gone: a copy is not worth a failure
        return False
    if written == len(data):
        _torn.discard(key)
    elif written:
        _torn.add(key)
    return written == len(data)


def _write_now(descriptor: int, mode: int, key: _Key, data: bytes) -> int:
    """Write as much as there is room for; return how much that was.

    A pipe whose reader has stopped is full after 64 KiB, and the next write to it would wait for
    ever. Non-blocking mode belongs to the open file, which other processes share, so a pipe or a
    terminal is opened anew. A socket cannot be, but it can be asked not to wait.
    """
    if stat.S_ISREG(mode):
        return os.write(descriptor, data)
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            return copy.send(data, socket.MSG_DONTWAIT)
    try:
        if key not in _reopened:
            _reopened[key] = os.open(f"/proc/self/fd/{descriptor}", _FLAGS)
    except OSError:  # it was made by another user, or its reader is gone
        return _write_in_pieces(descriptor, data)
    return os.write(_reopened[key], data)


def _write_in_pieces(descriptor: int, data: bytes) -> int:
    """Write as long as there is room for a piece that a pipe takes whole."""
    written = 0
    while written < len(data) and select.select([], [descriptor], [], 0)[1]:
        written += os.write(descriptor, data[written : written + select.PIPE_BUF])
    return written


class StreamHandler(logging.Handler):
    """Copy records to stdout or stderr: short coloured lines for people, or JSON."""

    def __init__(self, descriptor: int, *, json: bool) -> None:
        super().__init__()
        self._formatter = JsonFormatter()
        self._json = json
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record if there is room; the file has it in any case."""
        line = self._formatter.line(record) + b"}"
        if not self._json:
            line = _short(orjson.loads(line)).encode()
        write_if_room(self._descriptor, line + b"\n")


def stdout_handler(mode: str) -> logging.Handler | None:
    """Make the handler that the setting LOG_STDOUT asks for, if it asks for one."""
    if mode == "json":
        return StreamHandler(STDOUT, json=True)
    if mode == "auto" and sys.stdout is not None and sys.stdout.isatty():
        return StreamHandler(STDOUT, json=False)
    return None


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
