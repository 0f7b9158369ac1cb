"""Has an uploaded file judged by a short-lived child, which may crash, loop or run out of memory.

The parent never parses the bytes of an upload.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, cast

from webapp.errors import ModelRejectedError, ServiceUnavailableError
from webapp.ml.loading.child import CPU_SECONDS, MEMORY_BYTES, READY
from webapp.ml.loading.refusals import invalid, rejected
from webapp.ml.passport import Passport

logger = logging.getLogger(__name__)

WALL_SECONDS: Final = 30
_QUEUE_SECONDS: Final = 10
_MAX_ANSWER_BYTES: Final = 4 * 2**20
_CRASHES: Final = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}
_slots = threading.BoundedSemaphore(2)


def judge(path: Path, *, max_features: int, trusted: tuple[str, ...] = ()) -> Passport:
    """Load and try an uploaded file in a child; return its passport.

    Raises
    ------
    ModelRejectedError : ``details["reason"]`` says why, the message what to change
    ServiceUnavailableError : too many uploads at once, or the child cannot start
    """
    if not _slots.acquire(timeout=_QUEUE_SECONDS):
        raise ServiceUnavailableError(
            "too many uploads are being checked; try again", retry_after_seconds=_QUEUE_SECONDS
        )
    try:
        with path.open("rb") as file:
            output, status = _run_child(
                file, json.dumps({"max_features": max_features, "trusted": trusted})
            )
    except OSError as error:  # no descriptor, process or memory is left for a child
        logger.exception("The check of an upload cannot start")
        raise ServiceUnavailableError("uploaded models cannot be checked now") from error
    finally:
        _slots.release()
    return _read_answer(output, status)


def _run_child(file: IO[bytes], asked: str) -> tuple[bytes, int]:
    # Found by the same paths as here; nothing else of our environment, which may hold secrets.
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }
    process = subprocess.Popen(  # noqa: S603  # the command is ours, the upload is only its input
        [sys.executable, "-B", "-P", "-s", "-W", "ignore", "-m", "webapp.ml.loading.child", asked],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # until it is ready: the reason why it cannot start
        env=environment,
        start_new_session=True,
    )
    answers = cast(IO[bytes], process.stdout)  # a pipe, as asked for
    alarm = threading.Timer(WALL_SECONDS, _kill_group, (process.pid,))
    alarm.start()
    try:
        output = answers.read(_MAX_ANSWER_BYTES + 1)
        if len(output) <= _MAX_ANSWER_BYTES:
            # Not reaped yet, so that the number of its group cannot become somebody else's.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    finally:
        _kill_group(process.pid)
        alarm.cancel()
        alarm.join()
        answers.close()
    return output, process.wait()


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _read_answer(output: bytes, status: int) -> Passport:
    trouble, ready, text = output.partition(READY)
    if not ready:
        logger.error("The check of uploads cannot start: %s", trouble.decode("utf-8", "replace"))
        raise ServiceUnavailableError("uploaded models cannot be checked now")
    if -status in _CRASHES:
        raise invalid("loading it crashes")
    if status < 0:
        raise rejected(
            "limits",
            "the model takes more time or memory than allowed to load and predict one row"
            f" ({CPU_SECONDS} s, {MEMORY_BYTES // 2**20} MiB)",
        )
    try:
        answer = json.loads(text)
        if "passport" in answer:
            return Passport.from_dict(answer["passport"])
        if "trouble" in answer:
            # The file's fault as far as we know; if it is a gap of ours, this shows where.
            logger.info("Refused an upload: %s", answer["trouble"])
        refusal = ModelRejectedError(str(answer["message"]), answer["details"])
    except (ValueError, KeyError, TypeError) as error:
        raise invalid("checking it gives no answer") from error
    raise refusal
