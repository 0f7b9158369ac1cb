"""Nothing that a serving process says is text: warnings, uncaught exceptions, other loggers."""

import subprocess
from pathlib import Path

import pytest

from tests.scripts import SIGNING_KEY, read, run
from tests.unit.events.conftest import Event, parse
from webapp.settings import env_name

_SERVER = """
import logging, sys, threading, warnings
from gunicorn.config import Config
from webapp.events.gunicorn_logger import EventLogger

server = EventLogger(Config())
"""
_EVERYTHING = f"""{_SERVER}
server.info("Listening at: %s", "http://127.0.0.1:8000")
server.debug("Current configuration:")
server.error("Worker (pid:%s) was sent SIGKILL!", 4711)
server.access(None, None, {{}}, None)
server.reopen_files()

warnings.warn("this is\\nold", DeprecationWarning)
logging.getLogger("werkzeug").info('127.0.0.1 - - "GET / HTTP/1.1" 200 -')
logging.getLogger("sqlalchemy.pool").error("Exception during reset or similar")
logging.getLogger("sqlalchemy.engine").info("SELECT secret")
logging.getLogger("urllib3").debug("Starting new connection")
logging.info("the key is {SIGNING_KEY}, the password p4ssw0rd%21 or p4ssw0rd!")

def fail(what):
    raise ValueError(what)

for target in (lambda: fail("in a thread"), sys.exit):
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()

class Unclosable:
    def __del__(self):
        fail("in a finaliser")

Unclosable()
fail("at the end")
"""


@pytest.fixture(scope="module")
def spoken(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[Event], subprocess.CompletedProcess[str]]:
    """What a server logged, and how it ended."""
    folder = tmp_path_factory.mktemp("spoken")
    ended = run(_EVERYTHING, folder)
    return read(folder), ended


Spoken = tuple[list[Event], subprocess.CompletedProcess[str]]


def test_every_line_of_the_file_is_an_event(spoken: Spoken) -> None:
    events = spoken[0]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all(event["event_type"] == "log" for event in events)
    assert [(event["logger"], event["level"]) for event in events] == [
        ("gunicorn.error", "INFO"),
        ("gunicorn.error", "ERROR"),
        ("py.warnings", "WARNING"),
        ("werkzeug", "INFO"),
        ("sqlalchemy.pool", "ERROR"),
        ("root", "INFO"),
        ("webapp.process", "ERROR"),
        ("webapp.process", "ERROR"),
        ("webapp.process", "CRITICAL"),
    ]


def test_only_what_ends_or_hinders_the_server_is_also_said_on_stderr(spoken: Spoken) -> None:
    events, ended = spoken
    said = [parse(line.encode()) for line in ended.stderr.splitlines()]
    numbered = [
        {name: value for name, value in event.items() if name != "seq"}
        for event in events
        if event["logger"] in {"gunicorn.error", "webapp.process"} and event["level"] != "INFO"
    ]
    assert said == numbered
    assert ended.stdout == "", "nothing, when it is no terminal"
    assert ended.returncode == 1


def test_a_warning_is_an_event(spoken: Spoken) -> None:
    (warning,) = [event for event in spoken[0] if event["logger"] == "py.warnings"]
    assert "DeprecationWarning: this is\nold" in warning["message"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("Uncaught exception in a thread", "in a thread"),
        ("Exception that could not be raised", "in a finaliser"),
        ("Uncaught exception", "at the end"),
    ],
)
def test_an_exception_that_nobody_caught_is_an_event(
    spoken: Spoken, message: str, text: str
) -> None:
    (event,) = [event for event in spoken[0] if event["message"] == message]
    assert event["exception_type"] == "ValueError"
    assert event["exception"].startswith("Traceback (most recent call last):")
    assert event["exception"].endswith(f"ValueError: {text}")
    assert event["fingerprint"]


def test_the_settings_secrets_are_known_by_value(spoken: Spoken) -> None:
    (event,) = [event for event in spoken[0] if event["logger"] == "root"]
    assert event["message"] == "the key is [redacted], the password [redacted] or [redacted]"


def test_an_interrupt_at_the_keyboard_is_no_failure(tmp_path: Path) -> None:
    ended = run(f"{_SERVER}\nlogging.info('started')\nraise KeyboardInterrupt", tmp_path)
    assert [event["message"] for event in read(tmp_path)] == ["started"]
    assert ended.stderr == ""


def test_json_on_stdout_repeats_every_line(tmp_path: Path) -> None:
    asked = f"import os\nos.environ['{env_name('log_stdout')}'] = 'json'\n{_SERVER}\n"
    ended = run(asked + "logging.info('one')\nlogging.error('two')", tmp_path)
    said = [parse(line.encode())["message"] for line in ended.stdout.splitlines()]
    assert said == [event["message"] for event in read(tmp_path)] == ["one", "two"]


def test_a_program_works_where_the_log_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "app.log").mkdir()
    ended = run(f"{_SERVER}\nlogging.warning('noted')\nprint('the answer')", tmp_path)
    assert ended.stdout == "the answer\n"
    dropped = parse(ended.stderr.encode().rstrip(b"\n"))
    assert (dropped["message"], dropped["seq"]) == ("noted", 1)
