"""What JSON can say: any value, made strict, bounded, and never an error."""

import math
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, Final

import orjson

from webapp.events import schema

MAX_LINE_BYTES: Final = 64 * 1024
SEQ_BYTES: Final = 32  # room for what the handler appends to a line
OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
_MAX_DEPTH: Final = 8
_MAX_VALUES: Final = 10_000
_MAX_CHARS: Final = 4 * MAX_LINE_BYTES


def safe_text(value: Any) -> str:
    """Describe any value in words, whatever it does when it is asked to."""
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value).decode("utf-8", "backslashreplace")
        return str(value)
    except Exception as error:  # anything may be raised by a foreign __str__
        return f"<{type(value).__name__}: {type(error).__name__} in its text>"


def nearer(value: Any) -> Any:
    """Bring what orjson does not know one step nearer to JSON; called by it."""
    try:
        if isinstance(value, Set):
            return list(value)
        if isinstance(value, Mapping):
            return dict(value)
        if hasattr(value, "tolist"):  # numpy's arrays of objects, or not in one piece
            plain = value.tolist()
            if type(plain) is not type(value):  # a long double stays what it is
                return plain
    except Exception:  # the methods are the value's own; its text is left
        return safe_text(value)
    return safe_text(value)


def sanitised(fields: Mapping[Any, Any]) -> dict[str, Any]:
    """Rebuild an event from what JSON can say; it says so itself where something is left out."""
    sanitiser = _Sanitiser()
    result: dict[str, Any] = {}
    for name, value in fields.items():
        known = sanitiser.text(safe_text(name))
        if type(name) is not str and (known in fields or known in schema.FIELD_NAMES):
            continue  # what merely looks like the name of a field must not replace it
        result[known] = sanitiser.value(value)
    if sanitiser.cut:
        result["truncated"] = True
    return result


class _Sanitiser:
    """Rebuilds values, bounded in depth, number and length: a value may contain itself."""

    def __init__(self) -> None:
        self.cut = False
        self._left = _MAX_VALUES

    def value(self, value: Any, depth: int = 0) -> Any:
        """Rebuild one value."""
        self._left -= 1
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value) if -(2**63) <= value < 2**64 else _long_integer(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        if depth >= _MAX_DEPTH:
            self.cut = True
            return f"<{type(value).__name__}>"
        if isinstance(value, dict):
            return {
                self.text(safe_text(key)): self.value(item, depth + 1)
                for key, item in self._first(value.items())
            }
        if isinstance(value, list | tuple):
            return [self.value(item, depth + 1) for item in self._first(value)]
        try:
            return self.value(orjson.loads(orjson.dumps(value, option=OPTIONS)), depth)
        except TypeError:
            return self.value(nearer(value), depth + 1)

    def text(self, value: str) -> str:
        """Rebuild a text; of one that is far longer than a line, the middle is left out."""
        if len(value) > _MAX_CHARS:
            self.cut = True
            value = value[: _MAX_CHARS // 2] + value[-_MAX_CHARS // 2 :]
        return str.encode(value, "utf-8", "backslashreplace").decode()

    def _first(self, items: Iterable[Any]) -> Iterator[Any]:
        """Go through a container, as long as the event has less than a line can hold."""
        for item in list(items):
            if self._left <= 0:
                self.cut = True
                return
            yield item


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
