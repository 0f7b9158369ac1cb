"""Checks the rows of a request against what a model takes, and makes its X.

Checks that hold run over whole matrices or in C; only when one fails are the values looked at
one by one, to say which is wrong. No message repeats a value that was sent.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final, Literal, NoReturn

import numpy as np
import pandas as pd

from webapp.errors import InvalidInputError
from webapp.ml.columns import Column

Layout = Literal["numbers", "frame", "objects", "texts"]
# Rows of JSON values, or a matrix.
Rows = list[Any] | np.ndarray[Any, Any]
_NULL: Final = type(None)
_NUMBERS: Final = {int, float}
_SHOWN_NAMES: Final = 5
_SHOWN_CATEGORIES: Final = 10


class Table:
    """Rows of a model with categories, as one array per column: a frame costs far more."""

    def __init__(self, columns: Sequence[np.ndarray[Any, Any]], names: pd.Index | None) -> None:
        self.columns = columns
        self._names = names

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, rows: Any) -> "Table":
        """Take some of the rows, by a slice or a mask."""
        return Table([column[rows] for column in self.columns], self._names)

    def join(self, other: "Table") -> "Table":
        """Put the rows of another one below."""
        pairs = zip(self.columns, other.columns, strict=True)
        return Table([np.concatenate(pair) for pair in pairs], self._names)

    def find_holes(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Tell for each row whether a value is missing."""
        holes: np.ndarray[Any, Any] = np.any([pd.isna(column) for column in self.columns], axis=0)
        return holes

    def assemble(self) -> Any:
        """Make what scikit-learn wants: a frame, or a matrix of objects if there are no names."""
        if self._names is None:
            X = np.empty((len(self), len(self.columns)), dtype=object)
            for position, column in enumerate(self.columns):
                X[:, position] = column
            return X
        frame = pd.DataFrame(dict(enumerate(self.columns)), copy=False)
        frame.columns = self._names
        return frame


class InputReader:
    """Reads rows for one model."""

    def __init__(
        self,
        columns: Sequence[Column],
        names: Sequence[str] | None,
        nullable: frozenset[int],
        layout: Layout,
    ) -> None:
        self._columns = columns
        self._names = names
        self._nullable = nullable
        self._layout = layout
        self._width = len(columns)
        self._by_name = _getter(names) if names is not None else None
        self._rules = [_Rule(column, i in nullable) for i, column in enumerate(columns)]
        self._closed = [i for i, rule in enumerate(self._rules) if rule.known is not None]
        self._frame_names = None if names is None else pd.Index(names, dtype=object)

    def read(self, input_data: Any) -> tuple[Any, bool]:
        """Make X of the rows, and tell whether all of its numbers are finite.

        Raises
        ------
        InvalidInputError : ``details`` has row, column and what was expected there
        """
        if isinstance(input_data, np.ndarray):
            if self._layout == "numbers" and input_data.dtype.kind in "iuf":
                return self._check_matrix(input_data)
            input_data = input_data.tolist()
        rows = self._rows(input_data)
        if self._layout == "numbers":
            return self._read_numbers(rows)
        columns = list(zip(*rows, strict=True))
        if not all(rule.admits(values) for rule, values in zip(self._rules, columns, strict=True)):
            self._refuse_value(rows)
        finite = not any(
            None in values or (rule.is_numeric and any(map(math.isnan, values)))
            for rule, values in zip(self._rules, columns, strict=True)
        )
        if self._layout == "texts":
            return list(columns[0]), finite
        arrays = [rule.to_array(values) for rule, values in zip(self._rules, columns, strict=True)]
        return Table(arrays, self._frame_names), finite

    def _check_matrix(self, matrix: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], bool]:
        X = np.ascontiguousarray(matrix, dtype=np.float64)
        finite = bool(np.isfinite(X).all())
        holes = not finite and X.shape[1] == self._width and not self._holes_are_allowed(X)
        if X.shape[1] != self._width or holes or self._closed:
            return self._read_numbers(self._rows(matrix.tolist()))  # which says what is wrong
        return X, finite

    def _read_numbers(self, rows: list[Any]) -> tuple[np.ndarray[Any, Any], bool]:
        # numpy would take "1.5" and true for numbers without a word, hence the types first.
        types = set(map(type, chain.from_iterable(rows)))
        if not types <= {int, float, _NULL}:
            self._refuse_value(rows)
        try:
            X = np.array(rows, dtype=np.float64)
        except OverflowError:
            self._refuse_value(rows)
        finite = bool(np.isfinite(X).all())
        if not finite and not self._holes_are_allowed(X):
            self._refuse_value(rows)
        for position in self._closed:
            if not self._rules[position].admits(X[:, position].tolist()):
                self._refuse_value(rows)
        return X, finite

    def _holes_are_allowed(self, X: np.ndarray[Any, Any]) -> bool:
        holes = np.flatnonzero(np.isnan(X).any(axis=0)).tolist()
        return self._nullable.issuperset(holes) and not bool(np.isinf(X).any())

    def _rows(self, input_data: Any) -> list[Any]:
        if not isinstance(input_data, list) or not input_data:
            raise InvalidInputError(
                "input_data must be a list of at least one row",
                {"row": None, "column": None, "expected": "at least one row"},
            )
        kinds = set(map(type, input_data))
        if kinds == {dict}:
            return self._rows_of_objects(input_data)
        if kinds != {list}:
            self._refuse_kinds(input_data)
        if set(map(len, input_data)) != {self._width}:
            self._refuse_width(input_data)
        return input_data

    def _rows_of_objects(self, objects: list[dict[str, Any]]) -> list[Any]:
        if self._by_name is None:
            raise _wrong(0, None, "a list of values", "the model has no feature names, and row 0")
        try:
            rows = list(map(self._by_name, objects))
        except KeyError:
            self._refuse_names(objects)
        if set(map(len, objects)) != {self._width}:
            self._refuse_names(objects)
        return rows

    def _refuse_kinds(self, rows: list[Any]) -> NoReturn:
        first = type(rows[0]) if type(rows[0]) in (list, dict) else list
        row = next(i for i, value in enumerate(rows) if type(value) is not first)
        expected = "a list of values" if first is list else "an object, as the rows before it"
        raise _wrong(row, None, expected, f"row {row}")

    def _refuse_width(self, rows: list[Any]) -> NoReturn:
        row = next(i for i, values in enumerate(rows) if len(values) != self._width)
        raise InvalidInputError(
            f"row {row} has {_count(len(rows[row]), 'value')}, but the model takes {self._width}",
            {"row": row, "column": None, "expected": _count(self._width, "value")},
        )

    def _refuse_names(self, objects: list[dict[str, Any]]) -> NoReturn:
        names = self._names or ()
        for row, given in enumerate(objects):
            missing = [name for name in names if name not in given]
            unknown = sorted(set(given).difference(names))
            if missing or unknown:
                what = f"lacks {_quote(missing)}" if missing else f"has unknown {_quote(unknown)}"
                raise InvalidInputError(
                    f"row {row} {what}; the model takes {_count(self._width, 'named value')}",
                    {
                        "row": row,
                        "column": (missing or unknown)[0][:80],
                        "expected": "every feature name of the model, and no other",
                        "missing": missing[:_SHOWN_NAMES],
                        "unknown": [name[:80] for name in unknown[:_SHOWN_NAMES]],
                    },
                )
        raise InvalidInputError("the feature names of the model are not distinct: send lists")

    def _refuse_value(self, rows: list[Any]) -> NoReturn:
        for row, values in enumerate(rows):
            for position, value in enumerate(values):
                rule = self._rules[position]
                if not rule.admits((value,)):
                    column = position if self._names is None else self._names[position]
                    raise _wrong(
                        row,
                        column,
                        rule.expected,
                        f"row {row}, column {column!r}",
                        rule.tell(value),
                    )
        raise AssertionError("a check failed that holds for every single value")


class _Rule:
    """What one column may hold."""

    def __init__(self, column: Column, nullable: bool) -> None:
        self._column = column
        self.is_numeric = column.is_numeric
        self._nullable = nullable
        values = [v for v in column.values if v is not None and v == v]
        if column.kind == "number":
            self._types = set(_NUMBERS)
        elif column.kind == "text":
            self._types = {str}
        else:
            self._types = set(map(type, values)) or {str, bool, int, float}
            if self._types & _NUMBERS:
                self._types |= _NUMBERS
        if nullable:
            self._types.add(_NULL)
        self.known = frozenset(values) if column.closed else None
        self._hole = None if any(v is None for v in column.values) else math.nan
        self.expected = self._expected(values)

    def admits(self, values: Sequence[Any]) -> bool:
        """Whether every one of the values may stand in the column."""
        types = set(map(type, values))
        if not types <= self._types:
            return False
        if float in types or int in types:
            numbers = [v for v in values if type(v) in _NUMBERS]
            if not self._admits_numbers(numbers):
                return False
        if self.known is None:
            return True
        holes = {v for v in values if v is None or v != v}
        return self.known.issuperset(set(values) - holes)

    def to_array(self, values: Sequence[Any]) -> np.ndarray[Any, Any]:
        """Make a column of admitted values."""
        if self.is_numeric:
            return np.array(values, dtype=np.float64)
        array = np.empty(len(values), dtype=object)
        array[:] = [self._hole if value is None else value for value in values]
        return array

    def tell(self, value: Any) -> str:
        """Tell what a value is that may not stand in the column, if its type is what is wrong."""
        found: type = type(value)
        # CSV has booleans as text.
        if found is str and self.is_numeric and value.lower() in ("true", "false"):
            found = bool
        if found in self._types or found not in _FOUND_NAMES:
            return ""
        told = f", not {_FOUND_NAMES[found]}"
        if found is bool and self.is_numeric:
            told += ": write 1 for true and 0 for false"
        return told

    def _admits_numbers(self, numbers: list[Any]) -> bool:
        try:
            array = np.array(numbers, dtype=np.float64)
        except OverflowError:
            return False
        return bool(np.isfinite(array).all()) or (
            self._nullable and not bool(np.isinf(array).any())
        )

    def _expected(self, values: list[Any]) -> str:
        if self._column.kind == "text":
            return "text"
        if self.known is not None and len(values) <= _SHOWN_CATEGORIES:
            what = "one of " + ", ".join(map(str, values))
        elif self.known is not None:
            what = f"one of the {len(values)} categories known to the model"
        elif self._column.kind == "number" or self.is_numeric:
            what = "a finite number"
        else:
            what = (
                "a category ("
                + " or ".join(sorted({_TYPE_NAMES[t] for t in self._types - {_NULL}}))
                + ")"
            )
        return f"{what}, or null" if self._nullable else what


_TYPE_NAMES: Final = {str: "text", bool: "true or false", int: "number", float: "number"}
_FOUND_NAMES: Final[dict[type, str]] = {
    str: "text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    _NULL: "a missing value",
}


def _getter(names: Sequence[str]) -> Callable[[dict[str, Any]], Sequence[Any]]:
    if len(names) == 1:
        only = itemgetter(names[0])
        return lambda row: (only(row),)
    return itemgetter(*names)


def _wrong(
    row: int, column: int | str | None, expected: str, where: str, found: str = ""
) -> InvalidInputError:
    return InvalidInputError(
        f"{where} must be {expected}{found}", {"row": row, "column": column, "expected": expected}
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _quote(names: list[str]) -> str:
    shown = ", ".join(repr(name[:80]) for name in names[:_SHOWN_NAMES])
    more = len(names) - _SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
