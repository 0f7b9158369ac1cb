"""Tensors of the Open Inference Protocol V2, in JSON and in raw bytes, to rows and back.

The raw form is that of its binary tensor data extension: little-endian, row-major, no padding;
a BYTES element is its length in 4 bytes, then its bytes.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np

from webapp.errors import InvalidInputError
from webapp.ml.passport import Passport
from webapp.ml.predictor import Prediction, Predictor

# Any: elements are whatever JSON has, arrays whatever the datatype says.
Array = np.ndarray[Any, np.dtype[Any]]

PREDICT: Final = "predict"
PREDICT_PROBA: Final = "predict_proba"
_MATRIX: Final = "input"
_DTYPES: Final = {
    "BOOL": np.dtype("?"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
_LENGTH: Final = struct.Struct("<I")
_NULL: Final = type(None)
_NUMBERS: Final[set[type]] = {int, float, _NULL}
_JSON_TYPES: Final[dict[str, set[type]]] = {"BOOL": {bool, _NULL}, "BYTES": {str, _NULL}}


@dataclass(frozen=True)
class Tensor:
    """A named tensor; ``values`` are its elements in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any] | Array

    @property
    def about(self) -> dict[str, Any]:
        """Describe it, without its elements."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def from_json(name: str, datatype: str, shape: Sequence[int], data: list[Any]) -> Tensor:
    """Read a tensor whose elements came in JSON, nested or flat."""
    _check_datatype(name, datatype)
    while list in set(map(type, data)):
        if set(map(type, data)) != {list}:
            raise InvalidInputError(f"the data of {_quote(name)} is nested unevenly")
        data = list(chain.from_iterable(data))
    if not set(map(type, data)) <= _JSON_TYPES.get(datatype, _NUMBERS):
        raise InvalidInputError(f"the data of {_quote(name)} has elements that are no {datatype}")
    _check_count(name, shape, len(data))
    return Tensor(name, datatype, tuple(shape), data)


def from_bytes(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """Read a tensor whose elements came as raw bytes."""
    _check_datatype(name, datatype)
    if datatype == "BYTES":
        values: list[Any] | Array = _split_texts(name, raw)
    else:
        dtype = _DTYPES[datatype]
        if len(raw) % dtype.itemsize:
            raise InvalidInputError(f"the bytes of {_quote(name)} are no whole number of elements")
        values = np.frombuffer(raw, dtype)
    _check_count(name, shape, len(values))
    return Tensor(name, datatype, tuple(shape), values)


def to_bytes(tensor: Tensor) -> bytes:
    """Write the elements of a tensor as raw bytes."""
    if tensor.datatype == "BYTES":
        texts = [b"" if value is None else str(value).encode() for value in tensor.values]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    dtype = _DTYPES[tensor.datatype]
    return np.asarray(tensor.values, np.float64 if dtype.kind == "f" else dtype).astype(
        dtype
    ).tobytes()  # fmt: skip


def to_rows(tensors: Sequence[Tensor], predictor: Predictor) -> list[Any] | Array:
    """Make a model's rows: of one tensor, all features of each row; of several, one each."""
    if len(tensors) == 1:
        return _matrix(tensors[0])
    names = _column_names(predictor.passport)
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(tensors) != len(by_name) or set(by_name) != set(names):
        raise InvalidInputError(
            "inputs must be one tensor of shape [rows, features] or one for each feature,"
            " named as the metadata of the model say"
        )
    columns = [_matrix(by_name[name]) for name in names]
    if len({len(column) for column in columns}) > 1 or any(len(c[0]) != 1 for c in columns):
        raise InvalidInputError("the tensors of single features must all have the shape [rows, 1]")
    values = (c[:, 0].tolist() if isinstance(c, np.ndarray) else [v for (v,) in c] for c in columns)
    return list(map(list, zip(*values, strict=True)))


def describe_inputs(predictor: Predictor) -> list[dict[str, Any]]:
    """Tell which tensors a model takes: a matrix if all is numbers, else one for each feature."""
    columns = predictor.columns
    if all(column.is_numeric for column in columns):
        return [{"name": _MATRIX, "datatype": "FP64", "shape": [-1, len(columns)]}]
    return [
        {"name": name, "datatype": "FP64" if column.is_numeric else "BYTES", "shape": [-1, 1]}
        for name, column in zip(_column_names(predictor.passport), columns, strict=True)
    ]


def describe_outputs(passport: Passport) -> list[dict[str, Any]]:
    """Tell which tensors a model answers with."""
    outputs: list[dict[str, Any]] = [
        {"name": PREDICT, "datatype": _label_datatype(passport), "shape": [-1, passport.n_outputs]}
    ]
    # Several outputs have probabilities of different widths, which are no one tensor.
    if passport.has_predict_proba and passport.n_outputs == 1:
        width = len(passport.classes_ or ()) or -1
        outputs.append({"name": PREDICT_PROBA, "datatype": "FP64", "shape": [-1, width]})
    return outputs


def to_tensor(name: str, prediction: Prediction, passport: Passport) -> Tensor:
    """Make the output of that name."""
    proba = name == PREDICT_PROBA
    values: list[Any] = (prediction.probabilities or []) if proba else prediction.predictions
    datatype = "FP64" if proba else _label_datatype(passport)
    if values and isinstance(values[0], list):
        values = list(chain.from_iterable(values))
    # What gave a whole number for the row that it was tried on need not do so for others.
    if datatype == "INT64" and float in set(map(type, values)):
        datatype = "FP64"
    return Tensor(name, datatype, (prediction.rows, len(values) // prediction.rows), values)


def _matrix(tensor: Tensor) -> list[Any] | Array:
    """Give a tensor of one or two dimensions its rows."""
    if len(tensor.shape) not in {1, 2} or 0 in tensor.shape:
        raise InvalidInputError(
            f"the shape of {_quote(tensor.name)} must be [rows, features], at least one of each"
        )
    rows, width = (*tensor.shape, 1)[:2]
    values = tensor.values
    if isinstance(values, np.ndarray):
        return values.reshape(rows, width)
    return [values[start : start + width] for start in range(0, rows * width, width)]


def _column_names(passport: Passport) -> list[str]:
    return passport.feature_names_in_ or [f"column_{i}" for i in range(passport.n_features_in_)]


def _label_datatype(passport: Passport) -> str:
    labels = passport.smoke_prediction if passport.classes_ is None else passport.classes_
    kinds = set(map(type, _flat(labels))) - {_NULL}
    if kinds == {bool}:
        return "BOOL"
    if kinds == {int}:
        return "INT64"
    return "FP64" if kinds <= {int, float} else "BYTES"


def _flat(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _flat(item)] if isinstance(value, list) else [value]


def _split_texts(name: str, raw: bytes) -> list[Any]:
    texts = []
    position = 0
    while position < len(raw):
        start = position + _LENGTH.size
        if start > len(raw):
            raise InvalidInputError(f"the bytes of {_quote(name)} end within a length")
        position = start + _LENGTH.unpack_from(raw, position)[0]
        if position > len(raw):
            raise InvalidInputError(f"the bytes of {_quote(name)} end within an element")
        try:
            texts.append(raw[start:position].decode())
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"element {len(texts)} of {_quote(name)} is not UTF-8"
            ) from None
    return texts


def _check_datatype(name: str, datatype: str) -> None:
    if datatype != "BYTES" and datatype not in _DTYPES:
        raise InvalidInputError(
            f"the datatype of {_quote(name)} must be one of {', '.join([*_DTYPES, 'BYTES'])}"
        )


def _check_count(name: str, shape: Sequence[int], count: int) -> None:
    if math.prod(shape) != count:
        raise InvalidInputError(
            f"{_quote(name)} has {count} elements; its shape asks for {math.prod(shape)}"
        )


def _quote(name: str) -> str:
    return f"input {name[:80]!r}"
