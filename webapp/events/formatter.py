"""A log record becomes one line of strict JSON, whatever was put into it."""

import hashlib
import logging
import math
import os
import socket
import time
import traceback
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson
from pythonjsonlogger.core import RESERVED_ATTRS, BaseJsonFormatter

from webapp.events import canonical, redact, schema

MAX_LINE_BYTES: Final = 64 * 1024
_SEQ_BYTES: Final = 32  # room for what the handler appends
_MAX_DEPTH: Final = 8
_MAX_ITEMS: Final = 1000
_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
# A library's `extra` must not overwrite who wrote the line, and when.
_OURS: Final = {"timestamp", "level", "logger", "host", "pid", "seq"}
_RESERVED: Final = frozenset({*RESERVED_ATTRS, "message", "asctime", "taskName", *_OURS})
# `extra` comes after what every record has, so a line need not look at those again.
_PLAIN_ATTRIBUTES: Final = len(logging.makeLogRecord({}).__dict__)
_PACKAGE: Final = str(Path(__file__).parents[1])


class JsonFormatter(BaseJsonFormatter):
    """Format records as the events of ``schema.FIELDS``.

    The base class gives the contract with ``logging``; serialising is ours, because its orjson
    formatter loses a line on a lone surrogate, a long integer or a self-reference.
    """

    def __init__(self) -> None:
        super().__init__()
        self._host = socket.gethostname()
        self._second = -1
        self._prefix = ""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as text; see ``line``."""
        return self.line(record).decode()

    def line(self, record: logging.LogRecord) -> bytes:
        """Format a record as a JSON object, without ``seq`` and without a newline.

        Never raises: what cannot be written as it is is written as near to it as JSON allows.
        """
        event = canonical.current()
        fields = self._fields(record, event)
        try:
            line = orjson.dumps(fields, default=_plain, option=_OPTIONS)
        except TypeError:
            fields = _sanitised(fields)
            line = orjson.dumps(fields)
        secrets = event.secrets if event is not None else ()
        if secrets or redact.may_hold_secret(line):
            fields = redact.event(_sanitised(fields), secrets)
            line = orjson.dumps(fields)
        return line if len(line) <= MAX_LINE_BYTES - _SEQ_BYTES else _cut(_sanitised(fields))

    def _fields(
        self, record: logging.LogRecord, event: canonical.RequestEvent | None
    ) -> dict[str, Any]:
        context = event.context if event is not None else {}
        fields = {
            "timestamp": self._timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "module": record.module,
            "function": record.funcName,
            "line": record.lineno,
            "event_type": schema.LOG,
            **context,
        }
        for name, value in islice(record.__dict__.items(), _PLAIN_ATTRIBUTES, None):
            if name not in _RESERVED and name not in context:
                fields[name] = value
        if record.exc_info and record.exc_info[0] is not None:
            fields.update(describe_exception(record.exc_info[1]))
        elif record.exc_text:
            fields["exception"] = record.exc_text
        fields["host"] = self._host
        fields["pid"] = os.getpid()
        return fields

    def _timestamp(self, created: float) -> str:
        second = int(created)
        if second != self._second:
            # Two threads may both compute it: they get the same text, so no lock is needed.
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._prefix}.{int((created - second) * 1e6):06d}Z"


def describe_exception(exception: BaseException | None) -> dict[str, str]:
    """Describe an exception: type, traceback, and a fingerprint that groups its like."""
    if exception is None:
        return {}
    kind = type(exception)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    return {
        "exception_type": name,
        "exception": "".join(traceback.format_exception(exception)).rstrip(),
        "fingerprint": _fingerprint(name, exception),
    }


def _fingerprint(name: str, exception: BaseException) -> str:
    """Hash the type and our own frames, without line numbers: those change with every edit."""
    own = [
        f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}"
        for frame, _ in traceback.walk_tb(exception.__traceback__)
        if frame.f_code.co_filename.startswith(_PACKAGE)
    ]
    return hashlib.sha256("|".join([name, *own]).encode("utf-8", "replace")).hexdigest()[:12]


def _message(record: logging.LogRecord) -> str:
    if not record.args and type(record.msg) is str:
        return record.msg
    try:
        return record.getMessage()
    except Exception as error:  # a bad format string or a broken __str__ must not lose the line
        return (
            f"{_safe_text(record.msg)} (arguments could not be formatted: {type(error).__name__})"
        )


def _plain(value: Any) -> Any:
    """Serialise what orjson does not know; called by it."""
    return _safe_text(value)


def _safe_text(value: Any) -> str:
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value).decode("utf-8", "backslashreplace")
        return str(value)
    except Exception as error:  # anything may be raised by a foreign __str__
        return f"<{type(value).__name__}: {type(error).__name__} in its text>"


def _sanitised(value: Any, depth: int = 0) -> Any:
    """Rebuild a value from what JSON can say, bounded in depth and length."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else _long_integer(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth >= _MAX_DEPTH:
        return f"<{type(value).__name__}>"
    if isinstance(value, dict):
        return {
            _sanitised(_safe_text(key)): _sanitised(item, depth + 1)
            for key, item in list(value.items())[:_MAX_ITEMS]
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_sanitised(item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
    try:
        return orjson.loads(orjson.dumps(value, option=_OPTIONS))
    except TypeError:
        return _sanitised(_safe_text(value))


def _long_integer(value: int) -> str:
    # str() of more than 4,300 digits raises.
    return str(value) if value.bit_length() < 10_000 else f"<integer of {value.bit_length()} bits>"


def _cut(fields: dict[str, Any]) -> bytes:
    """Cut long texts, then drop what is not in the schema, until the line fits."""
    fields = {**fields, "truncated": True}
    for limit in (8192, 2048, 512, 128):
        line = orjson.dumps({name: _shortened(value, limit) for name, value in fields.items()})
        if len(line) <= MAX_LINE_BYTES - _SEQ_BYTES:
            return line
    known = {name: value for name, value in fields.items() if name in schema.FIELD_NAMES}
    return orjson.dumps({name: _shortened(value, 128, 0) for name, value in known.items()})


def _shortened(value: Any, limit: int, items: int = 50) -> Any:
    if isinstance(value, str):
        return value if len(value) <= limit else f"{value[: limit // 2]} … {value[-limit // 2 :]}"
    if isinstance(value, dict):
        kept = list(value.items())[:items]
        return {_shortened(key, limit): _shortened(item, limit, items) for key, item in kept}
    if isinstance(value, list):
        return [_shortened(item, limit, items) for item in value[:items]]
    return value
