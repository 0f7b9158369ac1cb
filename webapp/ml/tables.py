"""Rows for a model out of the shapes that others give a table: by row, by column, with a header.

What is not a table's business (types, missing values, widths of single rows) is left to the
model's own reader, which says where it is wrong.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from webapp.errors import InvalidInputError
from webapp.ml.predictor import Predictor

_SHOWN_NAMES: Final = 5
_SHOWN_CHARS: Final = 80


def arrange(header: Sequence[str], rows: list[Any], predictor: Predictor) -> list[Any]:
    """Put the columns of rows, named by the header, into the order of the model's features.

    A model without feature names takes the columns as they stand.

    Raises
    ------
    InvalidInputError : names are missing, unknown or repeated; ``details`` lists them
    """
    names = predictor.passport.feature_names_in_
    if names is None:
        width = predictor.passport.n_features_in_
        if len(header) != width:
            raise _wrong(f"the header has {len(header)} columns, but the model takes {width}")
        return rows
    if list(header) == names:
        return rows
    _check_names(header, names)
    position = {name: index for index, name in enumerate(header)}
    pick = itemgetter(*(position[name] for name in names))
    # A row of another width is refused by the model's reader, wherever its values stand.
    return [list(pick(row)) if len(row) == len(header) else row for row in rows]


def from_instances(instances: list[Any]) -> list[Any]:
    """Make rows of instances; where a model takes one value, it may stand there as it is."""
    return [row if isinstance(row, (list, dict)) else [row] for row in instances]


def from_records(records: list[dict[str, Any]], predictor: Predictor) -> list[Any]:
    """Make rows of one object each, with the same names in all."""
    if predictor.passport.feature_names_in_ is not None or not records:
        return records
    header = list(records[0])
    differs = next((row for row, record in enumerate(records) if list(record) != header), None)
    if differs is not None:
        raise _wrong(f"row {differs} has other names than row 0", row=differs)
    return arrange(header, [list(record.values()) for record in records], predictor)


def from_columns(columns: Mapping[str, Any], predictor: Predictor) -> list[Any]:
    """Make rows of named columns; a single one may hold all features of each row."""
    if not all(isinstance(column, list) for column in columns.values()):
        raise _wrong("every column must be a list of values, one for each row")
    if len(columns) == 1 and predictor.passport.n_features_in_ > 1:
        return from_instances(*columns.values())
    if len(set(map(len, columns.values()))) > 1:
        raise _wrong("the columns must have the same number of values")
    values = ([_unwrap(value) for value in column] for column in columns.values())
    return arrange(list(columns), list(map(list, zip(*values, strict=True))), predictor)


def _unwrap(value: Any) -> Any:
    """A column may have the shape [rows, 1]."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _check_names(header: Sequence[str], names: list[str]) -> None:
    known, given = set(names), set(header)
    if not known & given:
        # Then it is a row of values more likely than a header: none of it is repeated.
        raise _wrong(f"the header has none of the {len(names)} feature names of the model")
    wrong = {
        "missing": [name for name in names if name not in given],
        "unknown": sorted(given - known),
        "repeated": [name for name, count in Counter(header).items() if count > 1],
    }
    told = [f"{what} {_quote(found)}" for what, found in wrong.items() if found]
    if told:
        shown = {what: _shorten(found) for what, found in wrong.items()}
        column = next(found[0] for found in shown.values() if found)
        raise _wrong("names of columns are wrong: " + ", ".join(told), column=column, **shown)


def _wrong(message: str, **details: Any) -> InvalidInputError:
    expected = "the feature names of the model, each once, in any order"
    return InvalidInputError(
        message, {"row": None, "column": None, "expected": expected, **details}
    )


def _shorten(names: list[str]) -> list[str]:
    return [name[:_SHOWN_CHARS] for name in names[:_SHOWN_NAMES]]


def _quote(names: list[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return ", ".join(map(repr, _shorten(names))) + (f" and {more} more" if more > 0 else "")
