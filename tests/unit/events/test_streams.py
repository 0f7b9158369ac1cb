"""Copies on stdout and stderr: for people or machines, and never waited for."""

import contextlib
import logging
import os
import pty
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.events.conftest import parse
from webapp.events import streams
from webapp.events.streams import StreamHandler, stdout_handler, write_if_room

LONG = b"x" * 50_000 + b"\n"
PATIENCE_SECONDS = 2


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of the usual size: its reader's end and its writer's."""
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with contextlib.suppress(OSError):  # the test closed it
            os.close(end)


def drain(descriptor: int) -> bytes:
    """Read all that is there."""
    os.set_blocking(descriptor, False)
    found = b""
    while True:
        try:
            piece = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return found
        if not piece:
            return found
        found += piece


def test_a_line_is_written_where_there_is_room(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    assert write_if_room(writer, b"a line\n")
    assert drain(reader) == b"a line\n"
    assert os.get_blocking(writer), "others share that pipe, and expect it to wait"


@pytest.mark.parametrize("line", [b"short\n", LONG])
def test_a_full_pipe_is_not_waited_for_and_recovers(pipe: tuple[int, int], line: bytes) -> None:
    reader, writer = pipe
    started = time.monotonic()
    written = sum(write_if_room(writer, line) for _ in range(20_000))
    assert time.monotonic() - started < PATIENCE_SECONDS
    assert 0 < written < 20_000
    assert drain(reader).startswith(line * written)
    assert write_if_room(writer, b"recovered\n")
    assert drain(reader).endswith(b"\nrecovered\n") or line == b"short\n"


def test_a_line_after_one_that_was_taken_in_part_stands_on_its_own(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    while write_if_room(writer, LONG):
        pass
    begun = len(drain(reader)) % len(LONG)
    assert write_if_room(writer, b"next\n")
    assert write_if_room(writer, b"last\n")
    assert drain(reader) == (b"\nnext\nlast\n" if begun else b"next\nlast\n")


def test_a_full_socket_is_not_waited_for_and_recovers() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        started = time.monotonic()
        while write_if_room(ours.fileno(), LONG):
            pass
        assert not write_if_room(ours.fileno(), LONG)
        assert time.monotonic() - started < PATIENCE_SECONDS
        drain(theirs.fileno())
        assert write_if_room(ours.fileno(), b"recovered\n")
        assert drain(theirs.fileno()).endswith(b"recovered\n")
        assert ours.getblocking()


def test_a_pipe_that_cannot_be_opened_anew_is_not_waited_for(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> int:
        raise PermissionError("another user's")

    reader, writer = pipe
    monkeypatch.setattr(streams.os, "open", refuse)
    started = time.monotonic()
    while write_if_room(writer, LONG):
        pass
    assert not write_if_room(writer, b"short\n") or len(drain(reader)) > 0
    assert time.monotonic() - started < PATIENCE_SECONDS
    drain(reader)
    assert write_if_room(writer, b"recovered\n")
    assert drain(reader).endswith(b"recovered\n")


def test_a_reader_that_went_away_does_no_harm(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    assert not write_if_room(writer, b"a line\n")


def test_a_descriptor_that_is_closed_does_no_harm(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    os.close(writer)
    assert not write_if_room(writer, b"a line\n")


def test_a_file_is_written_at_its_end(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", 0) as file:
        assert write_if_room(file.fileno(), b"one\n")
        assert write_if_room(file.fileno(), b"two\n")
    assert (tmp_path / "out").read_bytes() == b"one\ntwo\n"


@pytest.fixture
def stdout(monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]) -> Callable[[], bytes]:
    """Put a pipe in the place of stdout; return what reads it."""
    reader, writer = pipe
    monkeypatch.setattr(streams, "STDOUT", writer)
    return lambda: drain(reader)


def record(message: str, level: int = logging.INFO, **fields: object) -> logging.LogRecord:
    """Make a record."""
    return logging.Logger("tests").makeRecord(
        "tests", level, "file.py", 1, message, (), None, extra=fields
    )


def test_json_lines_are_those_of_the_file(stdout: Callable[[], bytes]) -> None:
    handler = stdout_handler("json")
    assert handler is not None
    handler.emit(record("two\nlines", rows=3))
    handler.emit(record("again"))
    first, second, end = stdout().split(b"\n")
    assert parse(first).items() >= {"message": "two\nlines", "rows": 3, "level": "INFO"}.items()
    assert parse(second)["message"] == "again"
    assert end == b""


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_nothing_is_said_unless_asked_for_or_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int], mode: str
) -> None:
    with os.fdopen(os.dup(pipe[1]), "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        assert stdout_handler(mode) is None


def test_a_terminal_gets_short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        monkeypatch.setattr(streams, "STDOUT", follower)
        handler = stdout_handler("auto")
        assert handler is not None
        facts = {"method": "GET", "path": "/a\x1b[2J", "status_code": 200, "duration": 0.5}
        handler.emit(record("Request completed\x07\n", logging.WARNING, **facts))
        text = drain(leader).decode()
    os.close(leader)
    assert text.count("\n") == 1
    assert "WARNING" in text
    assert r"Request completed\x07\n" in text
    assert r"GET /a\x1b[2J 200 0.5" in text, "what a client sent does not command the terminal"


def test_a_terminal_is_shown_the_exception(stdout: Callable[[], bytes]) -> None:
    handler = StreamHandler(streams.STDOUT, json=False)
    try:
        raise ValueError("why\x1b")
    except ValueError as error:
        failed = record("failed", logging.ERROR)
        failed.exc_info = (ValueError, error, error.__traceback__)
    handler.emit(failed)
    lines = stdout().decode().splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == r"ValueError: why\x1b"
