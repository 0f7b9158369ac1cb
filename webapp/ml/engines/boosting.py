"""Converts gradient boosting over histograms to a graph that compares in float64.

skl2onnx writes its thresholds in float32, which is wrong next to each of them. Registered here is
a converter of our own, in the way that skl2onnx documents for that.
"""

from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn._loss.link import IdentityLink, LogLink
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

_ML: Final = "ai.onnx.ml"


def register() -> None:
    """Have skl2onnx convert gradient boosting with what is below."""
    for model, shapes, options in (
        (
            HistGradientBoostingClassifier,
            calculate_linear_classifier_output_shapes,
            {"zipmap": [True, False, "columns"], "nocl": [True, False], "raw_scores": [False]},
        ),
        (HistGradientBoostingRegressor, calculate_linear_regressor_output_shapes, None),
    ):
        update_registered_converter(
            model, f"Pellucid{model.__name__}", shapes, _convert, overwrite=True, options=options
        )


def _convert(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    if model.is_categorical_ is not None:
        raise NotImplementedError("categories of gradient boosting are not converted")

    def add(kind: str, inputs: list[str], version: int, domain: str = "", **attributes: Any) -> str:
        output: str = scope.get_unique_variable_name(kind.lower())
        name = scope.get_unique_operator_name(kind)
        container.add_node(
            kind, inputs, output, op_domain=domain, op_version=version, name=name, **attributes
        )
        return output

    def constant(values: Any, kind: int) -> str:
        name: str = scope.get_unique_variable_name("constant")
        container.add_initializer(name, kind, list(values.shape), values.ravel().tolist())
        return name

    X = add("Cast", [operator.inputs[0].full_name], 13, to=TensorProto.DOUBLE)
    raw = add("TreeEnsembleRegressor", [X], 3, _ML, **_attributes(model))
    raw = add("Cast", [raw], 13, to=TensorProto.DOUBLE)
    if isinstance(model, HistGradientBoostingRegressor):
        link = type(model._loss.link)
        if link is LogLink:
            raw = add("Exp", [raw], 13)
        elif link is not IdentityLink:
            raise NotImplementedError(f"the link {link.__name__} is not converted")
        _hand_on(scope, container, raw, operator.outputs[0])
        return
    if model.n_trees_per_iteration_ == 1:
        second = add("Sigmoid", [raw], 13)
        first = add("Sub", [constant(np.ones(1), TensorProto.DOUBLE), second], 14)
        shares = add("Concat", [first, second], 13, axis=1)
    else:
        shares = add("Softmax", [raw], 13, axis=1)
    highest = add("ArgMax", [shares], 13, axis=1, keepdims=0)
    if model.classes_.dtype.kind in "iu":
        classes = constant(model.classes_, TensorProto.INT64)
    else:
        classes = constant(np.char.encode(model.classes_.astype(str), "utf-8"), TensorProto.STRING)
    label = add("Gather", [classes, highest], 13)
    container.add_node(
        "Identity",
        label,
        operator.outputs[0].full_name,
        op_version=13,
        name=scope.get_unique_operator_name("Identity"),
    )
    _hand_on(scope, container, shares, operator.outputs[1])


def _hand_on(scope: Any, container: Any, values: str, output: Any) -> None:
    is_double = type(output.type).__name__ == "DoubleTensorType"
    container.add_node(
        "Cast",
        values,
        output.full_name,
        op_version=13,
        name=scope.get_unique_operator_name("Cast"),
        to=TensorProto.DOUBLE if is_double else TensorProto.FLOAT,
    )


def _attributes(model: Any) -> dict[str, Any]:
    """Describe all trees: node by node in parallel lists, as the operator wants them."""
    nodes = [
        (tree, target, predictor.nodes)
        for tree, (target, predictor) in enumerate(
            (target, predictor)
            for predictors in model._predictors
            for target, predictor in enumerate(predictors)
        )
    ]
    every = np.concatenate([table for _, _, table in nodes])
    trees = np.concatenate([np.full(len(table), tree) for tree, _, table in nodes])
    targets = np.concatenate([np.full(len(table), target) for _, target, table in nodes])
    ids = np.concatenate([np.arange(len(table)) for _, _, table in nodes])
    leaf = every["is_leaf"] != 0
    return {
        "n_targets": model.n_trees_per_iteration_,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        "base_values_as_tensor": _doubles("base", model._baseline_prediction.ravel()),
        "nodes_treeids": trees.tolist(),
        "nodes_nodeids": ids.tolist(),
        "nodes_featureids": np.where(leaf, 0, every["feature_idx"]).tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_values_as_tensor": _doubles("at", np.where(leaf, 0, every["num_threshold"])),
        "nodes_truenodeids": np.where(leaf, 0, every["left"]).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, every["right"]).tolist(),
        "nodes_missing_value_tracks_true": every["missing_go_to_left"].astype(int).tolist(),
        "target_treeids": trees[leaf].tolist(),
        "target_nodeids": ids[leaf].tolist(),
        "target_ids": targets[leaf].tolist(),
        "target_weights_as_tensor": _doubles("weights", every["value"][leaf]),
    }


def _doubles(name: str, values: Any) -> Any:
    return helper.make_tensor(name, TensorProto.DOUBLE, [len(values)], values.tolist())
