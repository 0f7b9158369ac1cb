"""Starts programs of ours for those who must not: ``python -m webapp.launcher``.

A worker that has given up starting programs asks this small process, which is older than any worker
and has never held a secret. It knows complete command lines, starts these and no others, and ends
when nobody is left who could ask. Standard input is the socket of its requests; one request is one
message, a command line as JSON, with the descriptors that the program gets.

A process that has shared no launcher, such as a command on a terminal, starts them itself.
"""

import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Final

logger = logging.getLogger(__name__)

Command = tuple[str, ...]

_MAX_REQUEST_BYTES: Final = 64 * 2**10
_MAX_DESCRIPTORS: Final = 3


class LauncherGoneError(Exception):
    """The request waits for the launcher that comes with a new worker; this worker ends."""


class Life:
    """Tells whether a process lives: by a lock that it holds; a name or number could be reused."""

    def __init__(self, name: str) -> None:
        self._file = os.memfd_create(name)

    def claim(self) -> int | None:
        """Lock for a process to be started, which must inherit the descriptor; None if one lives.

        A descriptor that waits in a socket holds the lock as well.
        """
        # Opened anew, because a lock belongs to an open file, and forks share those.
        lock = os.open(f"/proc/self/fd/{self._file}", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def close(self) -> None:
        """Forget about the process."""
        os.close(self._file)


class Launcher:
    """A way to the launcher for its owner, which keeps it alive, and all that the owner forks."""

    def __init__(self, commands: tuple[Command, ...]) -> None:
        self.commands = commands
        # Packets keep requests apart, and the end is seen when the last asker is gone.
        self._asker, self._requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._life = Life("pellucid-launcher")
        self._owner = os.getpid()
        self._found_gone = False
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """Let go of the launcher, which ends with its last asker."""
        self._asker.close()
        self._requests.close()
        self._life.close()

    def revive(self) -> None:
        """Start the launcher unless it is alive."""
        lock = self._life.claim()
        if lock is None:
            return
        try:
            own = python("webapp.launcher", json.dumps(self.commands))
            self._process = _spawn(own, self._requests.fileno(), None, lock)
        finally:
            os.close(lock)

    def ask(self, command: Command, descriptors: tuple[int, ...]) -> None:
        """Have a program started, without waiting for it.

        Raises
        ------
        LauncherGoneError : it will be started as soon as there is a launcher again
        """
        request = json.dumps(command).encode()
        socket.send_fds(self._asker, [request], descriptors, socket.MSG_DONTWAIT)
        if os.getpid() == self._owner:
            self.revive()
            return
        lock = self._life.claim()
        if lock is not None:
            os.close(lock)
            # Only the owner can start it again, and does so before it forks a worker.
            logger.warning("The launcher is gone: this worker makes room for one that brings it")
            self._found_gone = True
            os.kill(os.getpid(), signal.SIGTERM)
            raise LauncherGoneError

    def check(self) -> None:
        """Raise again what ``ask`` raised in this process, which therefore ends."""
        if self._found_gone:
            raise LauncherGoneError


_shared: Launcher | None = None


def share(*commands: Command) -> None:
    """Start a launcher of these commands for this process and all that it will fork."""
    global _shared
    if _shared is None or _shared.commands != commands:
        if _shared is not None:
            _shared.close()
        _shared = Launcher(commands)
    _shared.revive()


def revive() -> None:
    """Start the launcher that this process shares again if it is dead."""
    if _shared is not None:
        _shared.revive()


def check() -> None:
    """Tell who waits for a program that it waits in vain.

    Raises
    ------
    LauncherGoneError : the program will be started, but not before this process has ended
    """
    if _shared is not None:
        _shared.check()


def start(command: Command, *descriptors: int) -> None:
    """Start a program in a session of its own, with an environment that holds no secret.

    Parameters
    ----------
    command : its whole command line; where there is a launcher, one that it knows
    descriptors : its standard input, its standard error, and one more that it inherits as it is

    Raises
    ------
    LauncherGoneError : it will be started as soon as there is a launcher again
    OSError : it cannot be started
    """
    if _shared is not None:
        _shared.ask(command, descriptors)
        return
    child = _spawn(command, *descriptors)
    # Somebody has to wait for it, or it stays a zombie as long as this process lives.
    threading.Thread(target=child.wait, name="launched", daemon=True).start()


def python(module: str, *arguments: str) -> Command:
    """Make the command line that runs a module of ours and of the operator's packages."""
    return (sys.executable, "-B", "-P", "-s", "-W", "ignore", "-m", module, *arguments)


def _spawn(
    command: Command, stdin: int = subprocess.DEVNULL, stderr: int | None = None, *kept: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the command is ours
        command,
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env=_environment(),
        pass_fds=kept,
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    # Found by the same paths as here; nothing else of our environment, which may hold secrets.
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }


def main() -> None:
    """Start what is asked for until every asker is gone."""
    signal.signal(signal.SIGCHLD, _reap)
    # A request is compared as it came: whoever sends it may be hostile.
    known = {json.dumps(command).encode(): command for command in json.loads(sys.argv[1])}
    requests = socket.socket(fileno=0)
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, _MAX_REQUEST_BYTES, _MAX_DESCRIPTORS)
        if not message:
            break
        try:
            if message in known:
                _spawn(known[message], *descriptors)
        except OSError as error:  # no process is left, or no memory: that may pass
            with suppress(OSError):
                sys.stderr.write(f"pellucid: a program cannot be started: {error}\n")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _reap(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
