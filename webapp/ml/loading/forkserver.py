"""The process that forks a child for each upload: ``python -m webapp.ml.loading.forkserver``.

Started with an empty environment, it has imported all that judging needs and has never held a
secret. It ends when nobody is left who could ask. Standard input is the socket of its requests;
one request is one message, a JSON object, with three descriptors: the upload, a pipe for the
answer, and a file of what the child needs to know of the upload.
"""

import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

from webapp.errors import InvalidInputError, ModelRejectedError
from webapp.ml.loading import sandbox
from webapp.ml.loading.allowed import Allowed
from webapp.ml.loading.examine import examine
from webapp.ml.loading.judging import COMPILE, ENDED, STARTED
from webapp.ml.loading.loader import load_estimator
from webapp.ml.loading.policy import load_policy
from webapp.ml.loading.refusals import over_limit
from webapp.ml.passport import Passport

CHILDREN: Final = 2
MAX_REQUEST_BYTES: Final = 64 * 2**10
_TROUBLE_LENGTH: Final = 4000
# Of an answer, what says where it begins and how its child ended.
_FRAME_BYTES: Final = 100
_TICK_SECONDS: Final = 0.5
# Descriptors of the child; its limit on them is low, hence not where they came.
_UPLOAD, _ANSWER, _FACTS, _SPARE = 3, 4, 5, 32


@dataclass
class Child:
    """A child under way."""

    process: int
    answer: int
    deadline: float


class ForkServer:
    """Forks children, at most so many at once, and ends those that take too long."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._children: list[Child] = []

    def serve(self) -> None:
        """Serve until every asker is gone."""
        # A child's end wakes the select below.
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            free = len(self._children) < CHILDREN
            watched: list[Any] = [wake_read, *([self._requests] if free else [])]
            ready, _, _ = select.select(watched, [], [], _TICK_SECONDS)
            if wake_read in ready:
                with suppress(BlockingIOError):
                    os.read(wake_read, 4096)
            if self._requests in ready and not self._accept():
                break
            self._reap()
        for child in self._children:
            _kill(child.process)

    def _accept(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._requests, MAX_REQUEST_BYTES, 3)
        if not message:
            return False
        file, answer, known = descriptors
        with os.fdopen(file, "rb") as upload, os.fdopen(known, "rb") as facts:
            if _is_still_wanted(answer):
                self._fork(json.loads(message), upload.fileno(), answer, facts.fileno())
            else:
                os.close(answer)
        return True

    def _fork(self, asked: dict[str, Any], upload: int, answer: int, facts: int) -> None:
        process = os.fork()
        if process == 0:
            _be_child(asked, upload, answer, facts)
        with suppress(OSError):
            os.setpgid(process, process)
        self._children.append(Child(process, answer, time.monotonic() + asked["wall_seconds"]))

    def _reap(self) -> None:
        for child in list(self._children):
            # Not reaped before its group is killed: its number cannot become somebody else's.
            ended = os.waitid(os.P_PID, child.process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            in_time = time.monotonic() < child.deadline
            if ended is None and in_time and _is_still_wanted(child.answer):
                continue
            _kill(child.process)
            _, status = os.waitpid(child.process, 0)
            with suppress(BrokenPipeError):
                os.write(child.answer, ENDED + str(os.waitstatus_to_exitcode(status)).encode())
            os.close(child.answer)
            self._children.remove(child)


def _is_still_wanted(answer: int) -> bool:
    poll = select.poll()
    poll.register(answer, 0)
    return not poll.poll(0)


def _kill(process: int) -> None:
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(process, signal.SIGKILL)


def _be_child(asked: dict[str, Any], upload: int, answer: int, facts: int) -> None:
    """Do what is asked with the upload and never return."""
    status = 1
    try:
        os.setpgid(0, 0)
        sandbox.die_with_parent()
        signal.set_wakeup_fd(-1)
        os.write(answer, STARTED)
        _keep_only(upload, answer, facts)
        sandbox.confine(asked["cpu_seconds"], asked["memory_bytes"])
        text = _compile(asked) if asked["task"] == COMPILE else _judge(asked)
        while text:
            text = text[os.write(_ANSWER, text) :]
        status = 0
    except BaseException:  # it must not return into the server's loop
        os.write(_ANSWER, traceback.format_exc().encode()[-_TROUBLE_LENGTH:])
    finally:
        os._exit(status)


def _keep_only(upload: int, answer: int, facts: int) -> None:
    """Close the server's descriptors; what a model prints must not get into the answer."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    kept = [fcntl.fcntl(each, fcntl.F_DUPFD, _SPARE) for each in (upload, answer, facts)]
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.dup2(kept[0], _UPLOAD)
    os.dup2(kept[1], _ANSWER)
    os.dup2(kept[2], _FACTS)
    os.closerange(_FACTS + 1, os.sysconf("SC_OPEN_MAX"))


def _judge(asked: dict[str, Any]) -> bytes:
    text = json.dumps(_examine(asked), allow_nan=False).encode()
    most = asked["max_answer_bytes"] - _FRAME_BYTES
    if len(text) > most:
        refusal = over_limit("bytes of labels, names and answers to one row", most)
        text = json.dumps({"message": refusal.message, "details": refusal.details}).encode()
    return text


def _examine(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        allowed = Allowed.from_dict(asked["allowed"])
        passport = examine(_read(_UPLOAD), asked["max_features"], allowed, _read(_FACTS))
        return {"passport": passport.to_dict()}
    except InvalidInputError as error:
        return {"message": error.message, "details": error.details, "wrong": "sample"}
    except ModelRejectedError as error:
        answer: dict[str, Any] = {"message": error.message, "details": error.details}
        if error.__cause__ is not None:
            answer["trouble"] = traceback.format_exc()[-_TROUBLE_LENGTH:]
        return answer
    except (MemoryError, RecursionError):
        message = "the model needs more memory than it may take"
        return {"message": message, "details": {"reason": "limits"}}


def _compile(asked: dict[str, Any]) -> bytes:
    # The compiler takes 30 MB and a fifth of a second, for which no judging should wait.
    from webapp.ml.engines.compiling import compile_model  # noqa: PLC0415

    estimator = load_estimator(_read(_UPLOAD), Allowed.from_dict(asked["allowed"]))
    known = json.loads(_read(_FACTS))
    passport = Passport.from_dict(known["passport"])
    told: list[str] = []
    sample = known["sample"].encode()
    compilation, graph = compile_model(estimator, passport, sample, told.append)
    answer = {**asdict(compilation), "trouble": "\n".join(told)[:_TROUBLE_LENGTH]}
    return json.dumps(answer, allow_nan=False).encode() + b"\n" + graph


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)  # another child may have read it, and died with its server
        return file.read()


def main() -> None:
    """Prepare, then serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for those who ask; then this ends too
    load_policy(tuple(json.loads(sys.argv[1])))
    requests = socket.socket(fileno=0)
    ForkServer(requests).serve()


if __name__ == "__main__":
    main()
