"""A log record becomes one line of strict JSON, whatever was put into it."""

import hashlib
import logging
import os
import socket
import time
import traceback
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson
from pythonjsonlogger.core import RESERVED_ATTRS, BaseJsonFormatter

from webapp.events import canonical, redact, schema, strict
from webapp.events.lines import FrequentRecord

# A library's `extra` must not overwrite who wrote the line, and when.
_OURS: Final = {"timestamp", "level", "logger", "line", "host", "pid", "seq"}
_RESERVED: Final = frozenset({*RESERVED_ATTRS, "message", "asctime", "taskName", *_OURS})
# `extra` comes after what every record has, so a line need not look at those again.
_PLAIN_ATTRIBUTES: Final = len(logging.makeLogRecord({}).__dict__)
_PACKAGE: Final = f"{Path(__file__).parents[1]}{os.sep}"
_HOST: Final = socket.gethostname()
_MAX_BYTES: Final = strict.MAX_LINE_BYTES - strict.SEQ_BYTES
# Two of them are microseconds: at each line, `%06d` would cost half as much again.
_THREE_DIGITS: Final = tuple(f"{number:03d}" for number in range(1000))
Fields = dict[str, Any]


class JsonFormatter(BaseJsonFormatter):
    """Format records as the events of ``schema.FIELDS``.

    The base class gives the contract with ``logging``; serialising is ours, because its orjson
    formatter loses a line on a lone surrogate, a long integer or a self-reference.

    A line is put together from three parts, of which only the first is new each time: what
    happened, in which request, where in the code of which process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._second = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as text; see ``line``."""
        return f"{self.line(record).decode()}}}"

    def line(self, record: logging.LogRecord) -> bytes:
        """Format a record as a JSON object, which is open at its end: ``seq`` may follow.

        Never raises: what cannot be written as it is is written as near to it as JSON allows.
        """
        try:
            return self._line(record)
        except Exception as error:  # a value's own methods may raise anything
            return self._line(_without_extras(record, error))

    def _line(self, record: logging.LogRecord) -> bytes:
        event = canonical.current()
        timestamp, level = self._timestamp(record.created), record.levelname
        facts: Fields
        if isinstance(record, FrequentRecord):
            facts = {"timestamp": timestamp, "level": level, "message": record.msg}
            facts |= record.chosen
            facts |= record.facts
            texts: Iterable[tuple[str, Any]] = record.facts.items()
            origin = record.origin
        else:
            facts = {"timestamp": timestamp, "level": level, "message": _message(record)}
            facts |= _extras(record, event)
            function = facts.pop("function", record.funcName)
            origin = (record.name, record.module, function, record.lineno)
            texts = islice(facts.items(), 1, None)  # the time is never the same
        if record.exc_info or record.exc_text:
            facts |= _failure(record)
            texts = islice(facts.items(), 1, None)
        if event is None or not event.secrets:
            try:
                first = orjson.dumps(facts, default=strict.nearer, option=strict.OPTIONS)
                context_part = b"" if event is None else event.context_part or _context_part(event)
                line = first[:-1] + context_part + _origin_part(*origin)
            except TypeError:
                pass  # a value that orjson refuses, or an origin that cannot be remembered
            else:
                fits = len(line) <= _MAX_BYTES
                if fits and not (texts and redact.may_hold_secrets(texts, first)):
                    return line
        context = event.context if event is not None else {}
        secrets = event.secrets if event is not None else ()
        return _careful_line({**facts, **context, **_origin_fields(*origin)}, secrets)[:-1]

    def _timestamp(self, created: float) -> str:
        second = int(created)
        known, prefix = self._second  # one attribute: another thread may replace it meanwhile
        if second != known:
            prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            self._second = (second, prefix)
        micros = int((created - second) * 1e6)
        return prefix + _THREE_DIGITS[micros // 1000] + _THREE_DIGITS[micros % 1000] + "Z"


def _failure(record: logging.LogRecord) -> Fields:
    if record.exc_info and record.exc_info[0] is not None:
        return dict(describe_exception(record.exc_info[1]))
    return {"exception": record.exc_text} if record.exc_text else {}


def describe_exception(exception: BaseException | None) -> dict[str, str]:
    """Describe an exception: type, traceback, and a fingerprint that groups its like."""
    if exception is None:
        return {}
    return {
        "exception_type": _type_name(exception),
        "exception": "".join(traceback.format_exception(exception)).rstrip(),
        "fingerprint": _fingerprint(exception),
    }


def _fingerprint(exception: BaseException) -> str:
    """Hash types and the places that raised, without line numbers: those change with edits.

    What it was raised from in the first place counts as well: one of ours may stand for any
    failure of any model. A failure is described where it is caught first and once more on the
    request's last line, with more frames there; the innermost ones are the same.
    """
    parts = [_type_name(exception), *_places(exception)]
    root = _root_cause(exception)
    if root is not exception:
        parts += [_type_name(root), *_places(root)]
    return hashlib.sha256("|".join(parts).encode("utf-8", "replace")).hexdigest()[:12]


def _root_cause(exception: BaseException) -> BaseException:
    seen = {id(exception)}
    while (cause := exception.__cause__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        exception = cause
    return exception


def _places(exception: BaseException) -> list[str]:
    frames = [frame.f_code for frame, _ in traceback.walk_tb(exception.__traceback__)]
    own = [code for code in frames if code.co_filename.startswith(_PACKAGE)]
    return [
        f"{Path(code.co_filename).stem}.{code.co_qualname}" for code in (*own[-1:], *frames[-1:])
    ]


def _type_name(exception: BaseException) -> str:
    kind = type(exception)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _extras(record: logging.LogRecord, event: canonical.RequestEvent | None) -> Fields:
    """Take what a caller added to a record: nothing that says which request, or who wrote."""
    context = event.context if event is not None else {}
    extras: Fields = {"event_type": schema.LOG}
    for name, value in islice(record.__dict__.items(), _PLAIN_ATTRIBUTES, None):
        if name not in _RESERVED and name not in context:
            extras[name] = value
    return extras


def _message(record: logging.LogRecord) -> str:
    if not record.args and type(record.msg) is str:
        return record.msg
    try:
        return record.getMessage()
    except Exception as error:  # a bad format string or a broken __str__ must not lose the line
        text, kind = strict.safe_text(record.msg), type(error).__name__
        return f"{text} (arguments could not be formatted: {kind})"


def _without_extras(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    """Copy what a record says, without the objects that it carries."""
    return logging.makeLogRecord(
        {
            "name": record.name,
            "levelname": record.levelname,
            "msg": f"{_message(record)} (fields could not be formatted: {type(error).__name__})",
            "module": record.module,
            "funcName": record.funcName,
            "lineno": record.lineno,
            "created": record.created,
        }
    )


def _careful_line(fields: Fields, secrets: set[str] | tuple[()]) -> bytes:
    """Serialise values of any kind, without secrets, and cut what is too long."""
    fields = redact.event(strict.sanitised(fields), secrets)
    line = orjson.dumps(fields)
    return line if len(line) <= _MAX_BYTES else strict.cut(fields)


def _origin_fields(logger: str, module: str, function: str, line: int) -> Fields:
    where = {"logger": logger, "module": module, "function": function, "line": line}
    return {**where, "host": _HOST, "pid": os.getpid()}


@lru_cache(maxsize=4096)
def _origin_part(logger: str, module: str, function: str, line: int) -> bytes:
    fields = _origin_fields(logger, module, function, line)
    return _part(fields, "\n".join(map(str, fields.values())))


os.register_at_fork(after_in_child=_origin_part.cache_clear)


def _context_part(event: canonical.RequestEvent) -> bytes:
    context = event.context
    # Of these alone a client chooses the text; an id that was shaped like a secret was not taken.
    texts = f"{context['method']}\n{context['path']}\n{context['client_ip']}"
    part = event.context_part = _part(context, texts)
    return part


def _part(fields: Fields, texts: str) -> bytes:
    """Serialise fields as the continuation of an object, which is open at its end."""
    try:
        line = orjson.dumps(fields)
    except TypeError:
        line = b""
    if not line or len(line) > _MAX_BYTES or redact.is_suspicious(texts):
        line = _careful_line(fields, ())
    return b"," + line[1:-1]
