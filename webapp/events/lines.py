"""Lines that every request writes, made at a third of the usual price."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

_LEVELS: Final = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_LEVEL_NAMES: Final = {level: logging.getLevelName(level) for level in _LEVELS}
_OWN: Final = logging.LogRecord.__dict__["__dict__"]


class FrequentRecord(logging.LogRecord):
    """A record with its facts apart, so that nobody has to look for them among the rest.

    It holds only what differs from the last one of its line; the rest is found in its class.
    """

    chosen: dict[str, Any]  # facts that are the program's own words, or numbers
    facts: dict[str, Any]
    same: dict[str, Any]
    origin: tuple[str, str, str, int]  # logger, module, function, line
    waits: bool

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # it is a getter in C as well
        """All that a record has, with its facts among the rest, for other handlers."""
        own = _OWN.__get__(self)
        return {**self.same, **own, **own["chosen"], **own["facts"]}


class FrequentLine:
    """Hands records to a logger, as its methods would.

    Those look for the caller in the stack, and for each fact among the record's attributes. Here
    both are known: the line comes from one function, and no fact has the name of an attribute.

    Parameters
    ----------
    logger : what the records are handed to
    function : where they come from, on the line
    waits : whether the record is written together with the next of its request
    """

    def __init__(
        self, logger: logging.Logger, function: Callable[..., Any], *, waits: bool = False
    ) -> None:
        self._logger = logger
        attributes = {
            "name": logger.name,
            "module": function.__module__.rpartition(".")[2],
            "funcName": function.__name__,
            "lineno": function.__code__.co_firstlineno,
        }
        same = logging.makeLogRecord(attributes).__dict__
        own = {"same": same, "origin": tuple(attributes.values()), "waits": waits}
        self._record: Final[type[FrequentRecord]] = type(
            "FrequentRecord", (FrequentRecord,), {**same, **own}
        )

    def emit(
        self,
        level: int,
        message: str,
        chosen: dict[str, Any],
        facts: dict[str, Any],
        exception: BaseException | None = None,
    ) -> None:
        """Write the line with what the program chose itself, and with other facts."""
        record = self._record.__new__(self._record)
        record.levelno = level
        record.levelname = _LEVEL_NAMES[level]
        record.msg = message
        record.created = time.time()
        record.chosen = chosen
        record.facts = facts
        if exception is not None:
            record.exc_info = (type(exception), exception, exception.__traceback__)
        # Not `handle`: these loggers have no filters, and are not disabled.
        self._logger.callHandlers(record)
