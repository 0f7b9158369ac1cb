"""Tables as CSV (RFC 4180), in and out: UTF-8, commas, quotes doubled inside quotes."""

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from webapp.errors import InvalidInputError, PayloadTooLargeError
from webapp.ml.columns import Column
from webapp.ml.predictor import Prediction, Predictor
from webapp.ml.tables import arrange

_BOOLEANS = {"true": True, "false": False}


def read_rows(
    data: bytes, predictor: Predictor, *, header: bool | None, max_rows: int
) -> list[Any]:
    """Make a model's rows of the lines; an empty field is a missing value.

    Parameters
    ----------
    header : whether the first line has names; if nobody said, a model with feature names expects
        them, and for one without the first line is a header where nothing in it is a number

    Raises
    ------
    InvalidInputError : no CSV, or names that are not the model's
    PayloadTooLargeError : more rows than allowed
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInputError(
            "the CSV is not UTF-8", {"row": None, "column": None, "expected": "text in UTF-8"}
        ) from None
    lines = _split(text)
    first = next(lines, None)
    if first is None:
        return []
    named = _is_header(first, predictor) if header is None else header
    rows = list(islice(lines, max_rows + 1))
    if not named:
        rows.insert(0, first)
    if len(rows) > max_rows:
        raise PayloadTooLargeError(f"the CSV has more than {max_rows} rows")
    if named:
        rows = arrange(first, rows, predictor)
    if set(map(len, rows)) != {len(predictor.columns)}:
        return rows  # the model's reader says which row is too short or too long
    values = [
        _read_column(column, fields)
        for column, fields in zip(predictor.columns, zip(*rows, strict=True), strict=True)
    ]
    return list(map(list, zip(*values, strict=True)))


def read_sample(data: bytes, predictor: Predictor) -> list[Any]:
    """Make rows of a sample that came with a model; a first line has names if the model does.

    Raises
    ------
    InvalidInputError : no CSV, or names that are not the model's
    """
    named = predictor.passport.feature_names_in_ is not None
    return read_rows(data, predictor, header=named, max_rows=len(data))


def write_prediction(prediction: Prediction) -> str:
    """Write one line for each row, below a header: what was predicted, then the probabilities."""
    columns = _name_columns("prediction", prediction.predictions[0])
    if prediction.probabilities is not None:
        columns += _name_probabilities(prediction.probabilities[0], prediction.classes)
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(columns)
    probabilities = prediction.probabilities or [[]] * prediction.rows
    for label, shares in zip(prediction.predictions, probabilities, strict=True):
        writer.writerow([*_flat(label), *_flat(shares)])
    return file.getvalue()


def _split(text: str) -> Iterator[list[str]]:
    """Yield the fields of every line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        raise InvalidInputError(
            f"line {reader.line_num} is not valid CSV: {error}",
            {"row": None, "column": None, "expected": "CSV as in RFC 4180"},
        ) from None


def _is_header(first: list[str], predictor: Predictor) -> bool:
    if predictor.passport.feature_names_in_ is not None:
        return True
    kinds = set(map(type, map(_read_number, first)))
    numeric = all(column.is_numeric for column in predictor.columns)
    # Columns without names are often numbered in the header.
    numbered = first == [str(number) for number in range(len(first))]
    if not numeric or numbered or kinds >= {str, float}:
        raise InvalidInputError(
            "it is not clear whether the first line is a header:"
            " send Content-Type: text/csv; header=present, or header=absent",
            {"row": None, "column": None, "expected": "header=present or header=absent"},
        )
    return str in kinds


def _read_column(column: Column, fields: Sequence[str]) -> list[Any]:
    if column.is_numeric:
        return list(map(_read_number, fields))
    known = {str(value): value for value in column.values if value is not None}
    if bool in set(map(type, column.values)):
        known = _BOOLEANS | known
    return [known.get(field, field) if field else None for field in fields]


def _read_number(field: str) -> float | str | None:
    """Read a number, or None where none is; what is no number is left for the reader to refuse."""
    if not field:
        return None
    try:
        number = float(field)
    except ValueError:
        return field
    if "_" in field:  # a number for Python only
        return field
    return number if number == number else None


def _name_columns(name: str, example: Any) -> list[str]:
    """Several outputs are numbered."""
    if isinstance(example, list):
        return [f"{name}_{number}" for number in range(len(example))]
    return [name]


def _name_probabilities(shares: list[Any], classes: list[Any] | None) -> list[str]:
    if isinstance(shares[0], list):
        return [
            f"probability_{number}_{label}"
            for number, own in enumerate(shares)
            for label in _labels(own, classes[number] if classes else None)
        ]
    return [f"probability_{label}" for label in _labels(shares, classes)]


def _labels(shares: list[Any], classes: list[Any] | None) -> list[Any]:
    """Columns whose labels are not known, or are those of several outputs, are numbered."""
    if classes is None or len(classes) != len(shares) or isinstance(classes[0], list):
        return list(range(len(shares)))
    return classes


def _flat(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _flat(item)] if isinstance(value, list) else [value]
