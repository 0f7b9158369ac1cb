"""What JSON can say: any value, made strict, bounded, and never an error."""

import math
from typing import Any, Final

import orjson

from webapp.events import schema

MAX_LINE_BYTES: Final = 64 * 1024
SEQ_BYTES: Final = 32  # room for what the handler appends to a line
OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
_MAX_DEPTH: Final = 8
_MAX_ITEMS: Final = 1000


def safe_text(value: Any) -> str:
    """Describe any value in words, whatever it does when it is asked to."""
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value).decode("utf-8", "backslashreplace")
        return str(value)
    except Exception as error:  # anything may be raised by a foreign __str__
        return f"<{type(value).__name__}: {type(error).__name__} in its text>"


def sanitised(value: Any, depth: int = 0) -> Any:
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
            sanitised(safe_text(key)): sanitised(item, depth + 1)
            for key, item in list(value.items())[:_MAX_ITEMS]
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [sanitised(item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
    try:
        return orjson.loads(orjson.dumps(value, option=OPTIONS))
    except TypeError:
        return sanitised(safe_text(value))


def _long_integer(value: int) -> str:
    # str() of more than 4,300 digits raises.
    return str(value) if value.bit_length() < 10_000 else f"<integer of {value.bit_length()} bits>"


def cut(fields: dict[str, Any]) -> bytes:
    """Cut long texts, then drop what is not in the schema, until the line fits."""
    fields = {**fields, "truncated": True}
    for limit in (8192, 2048, 512, 128):
        line = orjson.dumps({name: _shortened(value, limit) for name, value in fields.items()})
        if len(line) <= MAX_LINE_BYTES - SEQ_BYTES:
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
