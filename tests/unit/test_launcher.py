"""The process that starts programs for others."""

import os
import select
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.processes import GONE_SECONDS, children, wait_until_gone
from webapp import launcher

ENVIRONMENT = (sys.executable, "-c", "import os; os.write(2, ' '.join(os.environ).encode())")
GREETING = (sys.executable, "-c", "import os; os.write(2, os.read(0, 9))")


@pytest.fixture
def started() -> Iterator[launcher.Launcher]:
    """A launcher that knows two programs."""
    made = launcher.Launcher((ENVIRONMENT, GREETING))
    made.revive()
    process = pid(made)
    yield made
    made.close()
    wait_until_gone_and_reaped(made, process)


def pid(made: launcher.Launcher) -> int:
    assert made._process is not None
    return made._process.pid


def wait_until_gone_and_reaped(made: launcher.Launcher, process: int) -> None:
    assert made._process is not None
    made._process.wait(GONE_SECONDS)
    wait_until_gone({process})


def ask(made: launcher.Launcher, command: launcher.Command, said: str = "") -> str:
    """Have a program started with something to read; return what it says."""
    stdin, write_stdin = os.pipe()
    read_stderr, stderr = os.pipe()
    os.write(write_stdin, said.encode())
    made.ask(command, (stdin, stderr))
    for descriptor in (stdin, stderr, write_stdin):
        os.close(descriptor)
    assert select.select([read_stderr], [], [], GONE_SECONDS)[0], "nobody answers"
    with os.fdopen(read_stderr) as answer:
        return answer.read()


def test_a_program_gets_its_descriptors_and_no_secret(
    started: launcher.Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELLUCID_JWT_SECRET_KEY", "s" * 32)
    assert ask(started, GREETING, "hello") == "hello"
    names = ask(started, ENVIRONMENT).split()
    threads = ["MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
    # Python itself adds one where the locale is C.
    assert {*names} - {"LC_CTYPE"} == {*threads, "PYTHONPATH"}


@pytest.mark.parametrize(
    "command", [("/bin/echo", "hello"), (*GREETING, "more"), GREETING[:2], ("",), ("x" * 70_000,)]
)
def test_it_starts_what_it_knows_and_nothing_else(
    command: launcher.Command, started: launcher.Launcher
) -> None:
    assert ask(started, command, "hello") == ""
    assert ask(started, GREETING, "still there") == "still the"


def test_ended_programs_are_no_zombies(started: launcher.Launcher) -> None:
    for _ in range(3):
        ask(started, GREETING)
    wait_until_gone(children(pid(started)))


def test_its_owner_starts_it_again_and_no_request_is_lost(started: launcher.Launcher) -> None:
    first = pid(started)
    os.kill(first, signal.SIGKILL)
    wait_until_gone_and_reaped(started, first)
    assert ask(started, GREETING, "hello") == "hello"
    assert pid(started) != first


def test_who_cannot_start_it_again_ends_and_the_request_waits(started: launcher.Launcher) -> None:
    first = pid(started)
    os.kill(first, signal.SIGKILL)
    wait_until_gone_and_reaped(started, first)
    read_stderr, stderr = os.pipe()
    worker = os.fork()
    if worker == 0:
        signal.signal(signal.SIGTERM, lambda *_: os.write(stderr, b"I was told to end. "))
        stdin, write_stdin = os.pipe()
        os.write(write_stdin, b"hello")
        try:
            started.ask(GREETING, (stdin, stderr))
        except launcher.LauncherGoneError:
            os._exit(0)
        os._exit(1)
    os.close(stderr)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
    started.revive()
    with os.fdopen(read_stderr) as answer:
        assert answer.read() == "I was told to end. hello"


def test_it_ends_with_the_last_who_could_ask() -> None:
    made = launcher.Launcher(())
    made.revive()
    process = pid(made)
    worker = os.fork()
    if worker == 0:
        signal.pause()
    made.close()
    assert made._process is not None
    assert made._process.poll() is None
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    wait_until_gone_and_reaped(made, process)
    assert made._process.returncode == 0
