"""Converts what stands before a model of categories: one-hot encoding, and filling of holes.

skl2onnx takes categories that are numbers for whole ones, and fills holes in float32 only.
"""

from functools import cache
from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

from webapp.ml.engines.nodes import Nodes, encode, register


@cache
def register_encoders() -> None:
    """Have skl2onnx convert encoders and imputers with what is below."""
    register("SklearnOneHotEncoder", _has_simple_categories, _encode, _shape_encoded)
    register("SklearnSimpleImputer", _fills_numbers, _fill)
    # Rows where a text is missing do not get as far as here.
    register("SklearnSimpleImputer", _fills_texts, Nodes.pass_on)


def _has_simple_categories(encoder: Any) -> bool:
    """Whether all categories are numbers or texts, and each has a column of its own or none."""
    values = [value for categories in encoder.categories_ for value in categories.tolist()]
    return not encoder._infrequent_enabled and all(
        type(value) in (str, int, float) and value == value for value in values
    )


def _shape_encoded(operator: Any) -> None:
    output = operator.outputs[0]
    is_single = any(isinstance(given.type, FloatTensorType) for given in operator.inputs)
    output.set_type((FloatTensorType if is_single else DoubleTensorType)(output.type.shape))


def _encode(nodes: Nodes) -> None:
    model = nodes.model
    dropped = [None] * len(model.categories_) if model.drop_idx_ is None else model.drop_idx_
    known = iter(zip(model.categories_, dropped, strict=True))
    parts = []
    for position, given in enumerate(nodes.given):
        is_text = isinstance(given.type, StringTensorType)
        X = given.full_name if is_text else nodes.take(position)
        width = given.type.shape[1]
        for column in range(width):
            categories, drop = next(known)
            kept = categories if drop is None else np.delete(categories, drop)
            values = encode(kept) if is_text else kept.astype(np.float64)
            number = nodes.constant(np.array([column]))
            one = X if width == 1 else nodes.add("Gather", [X, number], axis=1)
            is_it = nodes.add("Equal", [one, nodes.constant(values[None])], 19)
            parts.append(nodes.add("Cast", [is_it], to=TensorProto.DOUBLE))
    nodes.answer(nodes.add("Concat", parts, axis=1))


def _fills_numbers(imputer: Any) -> bool:
    statistics = imputer.statistics_
    return (
        statistics.dtype.kind == "f"
        and bool(np.isfinite(statistics).all())
        and _fills_holes(imputer)
        and imputer.indicator_ is None
    )


def _fills_texts(imputer: Any) -> bool:
    return imputer.statistics_.dtype.kind in "OU" and _fills_holes(imputer)


def _fills_holes(imputer: Any) -> bool:
    marker = imputer.missing_values
    return marker is None or marker != marker


def _fill(nodes: Nodes) -> None:
    X = nodes.take()
    statistics = nodes.constant(nodes.model.statistics_[None].astype(np.float64))
    nodes.answer(nodes.add("Where", [nodes.add("IsNaN", [X]), statistics, X], 16))
