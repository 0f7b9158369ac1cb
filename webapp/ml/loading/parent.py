"""Has an uploaded file judged by a short-lived child, which may crash, loop or run out of memory.

An accepted one is compiled in the same way. The parent never parses the bytes of an upload. The
children come from one fork server, which all the processes share that descend from the one that
called ``share``. Whoever finds it dead starts another.
"""

import atexit
import json
import logging
import os
import select
import signal
import socket
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from webapp import launcher
from webapp.errors import InvalidInputError, ModelRejectedError, ServiceUnavailableError
from webapp.ml.loading.allowed import NOTHING_MORE, Allowed
from webapp.ml.loading.judging import COMPILE, ENDED, JUDGE, STARTED
from webapp.ml.loading.refusals import invalid, rejected
from webapp.ml.loading.sandbox import CPU_SECONDS, MEMORY_BYTES
from webapp.ml.passport import Compilation, Passport

logger = logging.getLogger(__name__)

WALL_SECONDS: Final = 30
QUEUE_SECONDS: Final = 10
# Only the first upload waits for it: the interpreter, scikit-learn, a trusted library or two.
START_SECONDS: Final = 20
MAX_ANSWER_BYTES: Final = 4 * 2**20
# A large forest takes a minute to convert; nobody waits for it.
COMPILE_CPU_SECONDS: Final = 120
COMPILE_WALL_SECONDS: Final = 240
MAX_GRAPH_BYTES: Final = 64 * 2**20
_MAX_STARTS: Final = 2
_MAX_TROUBLE_BYTES: Final = 4000
_TICK_SECONDS: Final = 0.2
_CRASHES: Final = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}


class ServerDiedError(Exception):
    """The fork server cannot start, or went away with the question."""


class Judges:
    """A way to the fork server: a socket and a lock, inherited by every process forked later."""

    def __init__(self, trusted: tuple[str, ...] = ()) -> None:
        self.trusted = trusted
        # Packets keep questions apart, and the end is seen when the last asker is gone.
        self._asker, self._server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._life = launcher.Life("pellucid-judges")
        self._trouble = os.memfd_create("pellucid-judges-trouble")

    def close(self) -> None:
        """Let go of the fork server, which ends with its last asker."""
        self._asker.close()
        self._server.close()
        self._life.close()
        os.close(self._trouble)

    def start(self) -> bool:
        """Start the fork server unless it is alive; tell whether it had to be started.

        Raises
        ------
        LauncherGoneError : it will be started, but not now
        """
        lock = self._life.claim()
        if lock is None:
            return False
        try:
            os.ftruncate(self._trouble, 0)
            command = server_command(self.trusted)
            launcher.start(command, self._server.fileno(), self._trouble, lock)
        finally:
            os.close(lock)
        return True

    def ask(self, file: int, question: dict[str, Any], facts: int) -> tuple[bytes, int]:
        """Have a file judged or compiled; return the child's answer and exit status.

        Raises
        ------
        ServerDiedError : before the child had ended
        LauncherGoneError : there is no fork server, and this process can start none
        ServiceUnavailableError : no child came free in time
        """
        answers, answer = os.pipe()
        try:
            try:
                socket.send_fds(self._asker, [json.dumps(question).encode()], [file, answer, facts])
            finally:
                os.close(answer)
            output = self._read(answers, question["wall_seconds"], question["max_answer_bytes"])
        finally:
            os.close(answers)
        _, started, rest = output.partition(STARTED)
        text, ended, status = rest.rpartition(ENDED)
        if not started or not ended:
            raise ServerDiedError(self._last_words())
        return text, int(status)

    def _read(self, answers: int, wall_seconds: float, max_bytes: int) -> bytes:
        output = bytearray()
        asked, starts = time.monotonic(), 0
        latest = asked + wall_seconds + QUEUE_SECONDS + START_SECONDS
        while len(output) <= max_bytes:
            if not output:
                starts += self.start()
            ready, _, _ = select.select([answers], [], [], _TICK_SECONDS)
            if ready:
                piece = os.read(answers, 2**16)
                if not piece:
                    break
                output += piece
            elif not output:
                if starts > _MAX_STARTS:
                    raise ServerDiedError(self._last_words())
                launcher.check()
                patience = QUEUE_SECONDS + (START_SECONDS if starts else 0)
                if time.monotonic() - asked > patience:
                    raise ServiceUnavailableError(
                        "too many uploads are being checked; try again",
                        retry_after_seconds=round(QUEUE_SECONDS) or 1,
                    )
            elif time.monotonic() > latest:
                raise ServerDiedError("it does not end a child")
        return bytes(output)

    def _last_words(self) -> str:
        return os.pread(self._trouble, _MAX_TROUBLE_BYTES, 0).decode("utf-8", "replace")


_lock = threading.Lock()
_shared: Judges | None = None


def server_command(trusted: tuple[str, ...]) -> launcher.Command:
    """Make the command line of the fork server."""
    return launcher.python("webapp.ml.loading.forkserver", json.dumps(trusted))


def share(trusted: tuple[str, ...] = ()) -> None:
    """Start the fork server for this process and all that it will fork."""
    global _shared
    with _lock:
        if _shared is not None and _shared.trusted != trusted:
            _shared.close()
            _shared = None
    _get(trusted).start()


@atexit.register
def _close() -> None:
    if _shared is not None:
        _shared.close()


def judge(
    path: Path,
    *,
    max_features: int,
    sample: bytes = b"",
    allowed: Allowed = NOTHING_MORE,
    memory_bytes: int = MEMORY_BYTES,
) -> Passport:
    """Load and try an uploaded file in a child; return its passport.

    ``sample`` is CSV, as for ``compile_model``; the child has the model to hold it against.

    Raises
    ------
    InvalidInputError : the sample does not fit the model; ``details`` has row and column
    ModelRejectedError : ``details["reason"]`` says why, the message what to change
    ServiceUnavailableError : too many uploads at once, or the child cannot start
    """
    question = {
        "task": JUDGE,
        "max_features": max_features,
        "allowed": asdict(allowed),
        "memory_bytes": memory_bytes,
        "cpu_seconds": CPU_SECONDS,
        "wall_seconds": WALL_SECONDS,
        "max_answer_bytes": MAX_ANSWER_BYTES,
    }
    try:
        output, status = _ask_twice(_get(allowed.names), path, question, sample)
    except launcher.LauncherGoneError as error:
        raise ServiceUnavailableError(
            "uploaded models cannot be checked now; try again", retry_after_seconds=1
        ) from error
    except (OSError, ServerDiedError) as error:  # or no descriptor, process or memory is left
        logger.exception("The check of an upload cannot start")
        raise ServiceUnavailableError("uploaded models cannot be checked now") from error
    return _read_answer(output, status, memory_bytes)


def compile_model(
    path: Path,
    passport: Passport,
    *,
    sample: bytes = b"",
    allowed: Allowed = NOTHING_MORE,
    memory_bytes: int = MEMORY_BYTES,
) -> tuple[Compilation, bytes]:
    """Compile an accepted file in a child and verify the result; return it with the graph.

    ``sample`` is CSV that its owner sent along: rows to be verified on as well.

    Whatever goes wrong is a reason to stay with scikit-learn.

    Raises
    ------
    LauncherGoneError : this process ends; another may compile it
    """
    question = {
        "task": COMPILE,
        "allowed": asdict(allowed),
        "memory_bytes": memory_bytes,
        "cpu_seconds": COMPILE_CPU_SECONDS,
        "wall_seconds": COMPILE_WALL_SECONDS,
        "max_answer_bytes": MAX_GRAPH_BYTES,
    }
    known = {"passport": passport.to_dict(), "sample": sample.decode("utf-8", "replace")}
    facts = json.dumps(known).encode()
    started = time.monotonic()
    try:
        output, status = _ask_twice(_get(allowed.names), path, question, facts)
        if status == 0:
            head, _, graph = output.partition(b"\n")
            answer = json.loads(head)
            trouble = answer.pop("trouble")
            if trouble:
                said = {"digest": passport.sha256, "details": {"said": trouble}}
                logger.info("The compiler or its runtime refused a model", extra=said)
            return Compilation(**answer), graph
        reason = _explain(status, memory_bytes)
        why = {"reason": reason, "digest": passport.sha256, **_trouble(output, status)}
        logger.info("A model was not compiled", extra=why)
    except (OSError, ServerDiedError, ServiceUnavailableError, ValueError, TypeError):
        logger.exception("The compiling of a model failed")
        reason = "compiling it failed"
    return Compilation("sklearn", reason, time.monotonic() - started), b""


def _trouble(output: bytes, status: int) -> dict[str, str]:
    """Make a field of the traceback that a child leaves; what one was killed at is none."""
    return {"exception": output.decode("utf-8", "replace").rstrip()} if status > 0 else {}


def _explain(status: int, memory_bytes: int) -> str:
    if -status in _CRASHES:
        return "compiling it crashes"
    if status < 0:
        return (
            "compiling it takes more time or memory than allowed"
            f" ({COMPILE_CPU_SECONDS} s, {memory_bytes // 2**20} MiB)"
        )
    return "compiling it failed"


def _get(trusted: tuple[str, ...]) -> Judges:
    global _shared
    with _lock:
        if _shared is None:
            _shared = Judges(trusted)
        return _shared


def _ask_twice(
    judges: Judges, path: Path, question: dict[str, Any], facts: bytes = b""
) -> tuple[bytes, int]:
    with path.open("rb") as file, os.fdopen(os.memfd_create("pellucid-facts"), "wb") as known:
        known.write(facts)
        known.flush()
        try:
            return judges.ask(file.fileno(), question, known.fileno())
        except ServerDiedError:
            return judges.ask(file.fileno(), question, known.fileno())  # of a new one


def _read_answer(output: bytes, status: int, memory_bytes: int) -> Passport:
    if -status in _CRASHES:
        raise invalid("loading it crashes")
    if status < 0:
        raise rejected(
            "limits",
            "the model takes more time or memory than allowed to load and predict one row"
            f" ({CPU_SECONDS} s, {memory_bytes // 2**20} MiB)",
        )
    if status > 0:
        logger.error("The check of an upload failed", extra=_trouble(output, status))
        raise ServiceUnavailableError("uploaded models cannot be checked now")
    try:
        answer = json.loads(output)
        if "passport" in answer:
            return Passport.from_dict(answer["passport"])
        if "trouble" in answer:
            # The file's fault as far as we know; if it is a gap of ours, this shows where.
            logger.info("Refused an upload", extra={"exception": answer["trouble"].rstrip()})
        refused = InvalidInputError if "wrong" in answer else ModelRejectedError
        refusal = refused(str(answer["message"]), answer["details"])
    except (ValueError, KeyError, TypeError) as error:
        raise invalid("checking it gives no answer") from error
    raise refusal
