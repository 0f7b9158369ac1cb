"""Filter expressions such as ``level>=warning duration>0.2 message~Prediction``.

Nothing of an expression becomes SQL but the name of a known field; values are parameters.
"""

import operator as compare
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final

from webapp.events.schema import FIELDS

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
EXAMPLE: Final = "level>=warning status_code>=500 duration>0.2 message~Prediction"
_EXPRESSION: Final = re.compile(r"([\w.\-]+?)\s*(>=|<=|!=|!~|=|>|<|~)\s*(.*)", re.DOTALL)
_COMPARE: Final[dict[str, Callable[[int, int], bool]]] = {
    "=": compare.eq,
    "!=": compare.ne,
    ">": compare.gt,
    ">=": compare.ge,
    "<": compare.lt,
    "<=": compare.le,
}
_TYPES: Final = {field.name: field.type for field in FIELDS}
_TRUTHS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class FilterError(ValueError):
    """An expression that is not understood; the message says what is."""


@dataclass(frozen=True)
class Condition:
    """SQL over the columns of `events`, with its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()

    def also(self, sql: str, *parameters: Any) -> "Condition":
        """Add a condition that must hold too."""
        return Condition(f"{self.sql} AND ({sql})", (*self.parameters, *parameters))


def parse_filters(expressions: tuple[str, ...]) -> Condition:
    """Read expressions that must all hold."""
    conditions = [parse_filter(expression) for expression in expressions]
    return Condition(
        " AND ".join(f"({condition.sql})" for condition in conditions) or "true",
        tuple(value for condition in conditions for value in condition.parameters),
    )


def parse_filter(expression: str) -> Condition:
    """Read one expression: a field, an operator and a value.

    Raises
    ------
    FilterError : the field is unknown or the value of the wrong kind
    """
    match = _EXPRESSION.fullmatch(expression.strip())
    if match is None:
        raise FilterError(f"{expression!r} is not FIELD OPERATOR VALUE; for example {EXAMPLE}")
    name, operator, value = match.groups()
    column, kind = _column(name)
    if operator in ("~", "!~"):
        found = f"contains(lower({column}::VARCHAR), lower(?))"
        return Condition(found if operator == "~" else f"NOT coalesce({found}, false)", (value,))
    if name == "level":
        return _level(operator, value)
    typed = _value(name, kind, value)
    if operator == "!=":
        # A line without the field differs too.
        return Condition(f"{column} IS DISTINCT FROM ?", (typed,))
    return Condition(f"{column} {operator} ?", (typed,))


def _column(name: str) -> tuple[str, str]:
    if name in _TYPES and _TYPES[name] != "JSON":
        return f'"{name}"', _TYPES[name]
    head, *keys = name.split(".")
    if _TYPES.get(head) == "JSON" or (head == "extra" and keys):
        if "" in keys:
            raise FilterError(f"field {name!r} has an empty part")
        # The path is data to DuckDB, and \w . - leave no room for quotes.
        path = "".join(f'."{key}"' for key in keys)
        return f"(\"{head}\"->>'${path}')", "VARCHAR"
    close = get_close_matches(head, [*_TYPES, "extra"], 3, 0.5)
    hint = f"; nearest: {', '.join(close)}" if close else ""
    raise FilterError(
        f"unknown field {name!r}{hint} (a field outside the table is written extra.{name})"
    )


def _level(operator: str, value: str) -> Condition:
    level = value.upper()
    level = "WARNING" if level == "WARN" else level
    if level not in LEVELS:
        raise FilterError(f"level {value!r} is none of {', '.join(LEVELS)}")
    rank = LEVELS.index(level)
    wanted = [f"'{name}'" for n, name in enumerate(LEVELS) if _COMPARE[operator](n, rank)]
    # Our own names, written out: unlike a parameter they let DuckDB skip whole row groups.
    return Condition(f"level IN ({', '.join(wanted)})" if wanted else "false")


def _value(name: str, kind: str, value: str) -> Any:
    try:
        if kind == "BIGINT":
            return _whole(value) if re.fullmatch(r"-?\d+", value) else float(value)
        if kind == "DOUBLE":
            return float(value)
        if kind == "BOOLEAN":
            return _TRUTHS[value.lower()]
        if kind == "TIMESTAMP":
            moment = datetime.fromisoformat(value)
            return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, KeyError):
        wanted = {"BOOLEAN": "true or false", "TIMESTAMP": "a time, 2026-11-24T10:00:00Z"}
        raise FilterError(
            f"{name} is compared with {wanted.get(kind, 'a number')}, not {value[:40]!r}"
        ) from None
    except OverflowError:
        raise FilterError(
            f"{name} is compared with {value[:40]!r}, which is out of range"
        ) from None
    return value


def _whole(value: str) -> int:
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise OverflowError("no BIGINT")
    return number
