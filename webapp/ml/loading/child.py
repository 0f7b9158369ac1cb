"""The process that meets an upload first: ``python -m webapp.ml.loading.child``.

It reads the file from standard input, and answers on standard output: a line when it is ready,
then JSON. It limits itself before it imports what could misbehave.
"""

import json
import os
import resource
import sys
import traceback
from typing import Any, Final

READY: Final = b"pellucid: ready\n"
MEMORY_BYTES: Final = 2 * 2**30
CPU_SECONDS: Final = 20
OPEN_FILES: Final = 16
_TROUBLE_LENGTH: Final = 4000


def main() -> None:
    """Judge the file on standard input."""
    _limit_self()
    answers = os.dup(1)
    # Heavy, hence after the limits.
    from webapp.errors import ModelRejectedError  # noqa: PLC0415
    from webapp.ml.loading.examine import examine  # noqa: PLC0415
    from webapp.ml.loading.policy import load_policy  # noqa: PLC0415

    asked = json.loads(sys.argv[1])
    trusted = tuple(asked["trusted"])
    load_policy(trusted)
    os.write(answers, READY)
    # A verbose model must not write into the answer.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    answer: dict[str, Any]
    try:
        data = sys.stdin.buffer.read()
        answer = {"passport": examine(data, asked["max_features"], trusted).to_dict()}
    except ModelRejectedError as error:
        answer = {"message": error.message, "details": error.details}
        if error.__cause__ is not None:
            answer["trouble"] = traceback.format_exc()[-_TROUBLE_LENGTH:]
    except (MemoryError, RecursionError):
        message = "the model needs more memory than it may take"
        answer = {"message": message, "details": {"reason": "limits"}}
    with os.fdopen(answers, "wb") as file:
        file.write(json.dumps(answer, allow_nan=False).encode())


def _limit_self() -> None:
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    main()
