"""Converts trees to a graph that compares and adds up in float64, as scikit-learn does.

skl2onnx writes thresholds and leaves in float32: next to a threshold the one is wrong, and the
sum of a hundred of the other is a millionth beside that of scikit-learn.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper
from sklearn._loss.link import IdentityLink, LogLink
from sklearn._loss.loss import ExponentialLoss
from sklearn.dummy import DummyClassifier, DummyRegressor

from webapp.ml.engines.nodes import ML, Nodes, has_simple_classes, register

Array = np.ndarray[Any, Any]
_CLASSIFIERS: Final = (
    "DecisionTreeClassifier",
    "ExtraTreeClassifier",
    "RandomForestClassifier",
    "ExtraTreesClassifier",
)
_REGRESSORS: Final = (
    "DecisionTreeRegressor",
    "ExtraTreeRegressor",
    "RandomForestRegressor",
    "ExtraTreesRegressor",
)
# A float32 has 24 bits; one of them is for the halves that rounding to a quantum adds.
_BITS: Final = 23


@dataclass(frozen=True)
class _Tree:
    """The nodes of a tree; its values go to the target given and to those after it."""

    features: Array
    thresholds: Array
    left: Array
    right: Array
    missing_go_left: Array
    leaf: Array
    values: Array  # of shape (nodes, targets)
    target: int = 0


@cache
def register_trees() -> None:
    """Have skl2onnx convert trees with what is below."""
    for name in _CLASSIFIERS:
        register(f"Sklearn{name}", has_simple_classes, _classify)
    for name in _REGRESSORS:
        register(f"Sklearn{name}", lambda _: True, _regress)
    for name in ("GradientBoostingClassifier", "GradientBoostingRegressor"):
        register(f"Sklearn{name}", lambda _: True, _boost)
    for name in ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"):
        register(f"Sklearn{name}", lambda _: True, _boost_histograms)
    for name in (*_CLASSIFIERS, "IsolationForest"):
        register(f"Sklearn{name}", _is_endless, _refuse)


def _is_endless(model: Any) -> bool:
    """Tell whether skl2onnx would round an infinite threshold for ever."""
    ours = hasattr(model, "classes_") and has_simple_classes(model)
    return not ours and not all(np.isfinite(tree.threshold).all() for tree in _members(model))


def _refuse(nodes: Nodes) -> None:
    raise NotImplementedError("these trees, which split on what is missing, are not converted")


def _classify(nodes: Nodes) -> None:
    members = _members(nodes.model)
    share = 1 / len(members)
    if len(nodes.model.classes_) == 2:
        trees = [_read(tree, tree.value[:, 0, 1:2]) for tree in members]
        shares = _add_up(nodes, trees, [[-share, share]], bias=[1.0, 0.0])
    else:
        trees = [_read(tree, tree.value[:, 0]) for tree in members]
        shares = _add_up(nodes, trees, np.eye(len(nodes.model.classes_)) * share)
    nodes.answer_label(shares)
    nodes.answer(shares, 1)


def _regress(nodes: Nodes) -> None:
    members = _members(nodes.model)
    trees = [_read(tree, tree.value[:, :, 0]) for tree in members]
    nodes.answer(_add_up(nodes, trees, np.eye(nodes.model.n_outputs_) / len(members)))


def _boost(nodes: Nodes) -> None:
    model = nodes.model
    if model.init_ != "zero" and not isinstance(model.init_, (DummyClassifier, DummyRegressor)):
        raise NotImplementedError("boosting that begins with an estimator is not converted")
    base = model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))[0]
    trees = [
        _read(member.tree_, member.tree_.value[:, 0] * model.learning_rate, target)
        for stage in model.estimators_
        for target, member in enumerate(stage)
    ]
    _answer_boosted(nodes, trees, base)


def _boost_histograms(nodes: Nodes) -> None:
    model = nodes.model
    if model.is_categorical_ is not None:
        raise NotImplementedError("categories of gradient boosting are not converted")
    trees = [
        _read_histogram(predictor.nodes, target)
        for stage in model._predictors
        for target, predictor in enumerate(stage)
    ]
    _answer_boosted(nodes, trees, model._baseline_prediction.ravel())


def _answer_boosted(nodes: Nodes, trees: Sequence[_Tree], base: Array) -> None:
    model = nodes.model
    if not hasattr(model, "classes_"):
        raw = _add_up(nodes, trees, np.eye(1), base)
        link = type(model._loss.link)
        if link is LogLink:
            raw = nodes.add("Exp", [raw])
        elif link is not IdentityLink:
            raise NotImplementedError(f"the link {link.__name__} is not converted")
        nodes.answer(raw)
        return
    if len(base) > 1:
        raw = _add_up(nodes, trees, np.eye(len(base)), base)
    else:
        steepness = 2.0 if isinstance(model._loss, ExponentialLoss) else 1.0
        raw = _add_up(nodes, trees, [[-steepness, steepness]], base)
    nodes.answer_label(raw)
    if nodes.wants_scores:
        nodes.answer(raw, 1)
    elif len(base) > 1:
        nodes.answer(nodes.add("Softmax", [raw], axis=1), 1)
    else:
        nodes.answer(nodes.add("Sigmoid", [raw]), 1)


def _members(model: Any) -> list[Any]:
    return [member.tree_ for member in getattr(model, "estimators_", [model])]


def _read(tree: Any, values: Array, target: int = 0) -> _Tree:
    return _Tree(
        tree.feature,
        _widen(tree.threshold),
        tree.children_left,
        tree.children_right,
        tree.missing_go_to_left,
        tree.children_left < 0,
        values,
        target,
    )


def _read_histogram(table: Array, target: int) -> _Tree:
    return _Tree(
        table["feature_idx"],
        table["num_threshold"],
        table["left"],
        table["right"],
        table["missing_go_to_left"],
        table["is_leaf"] != 0,
        table["value"][:, None],
        target,
    )


def _widen(thresholds: Array) -> Array:
    """Find the greatest float64 whose nearest float32 is not above each threshold.

    Trees other than those over histograms round what they are given to float32 before they
    compare. A number in the middle between two goes to the one that ends in a zero bit.
    """
    with np.errstate(over="ignore"):
        below = thresholds.astype(np.float32)
    below = np.where(below > thresholds, np.nextafter(below, np.float32(-np.inf)), below)
    above = np.nextafter(below, np.float32(np.inf))
    middle = (below.astype(np.float64) + above.astype(np.float64)) / 2
    is_even = (below.view(np.int32) & 1) == 0
    return np.where(is_even, middle, np.nextafter(middle, -np.inf))


def _add_up(
    nodes: Nodes,
    trees: Sequence[_Tree],
    weights: Any,
    base: Array | None = None,
    bias: Any = None,
) -> str:
    """Add the values of the leaves that are reached to the base; multiply the sums by weights.

    The operator adds in float64 but answers in float32. So each value is split in two, multiples
    of a quantum whose sum float32 can hold and the small rest, with a target for either.
    """
    weights = np.asarray(weights)
    start = np.zeros(len(weights)) if base is None else base
    values = np.concatenate([tree.values[tree.leaf] for tree in trees])
    most = np.abs(start).max() + sum(np.abs(t.values[t.leaf]).max(axis=0) for t in trees)
    quantum = 2.0 ** (np.ceil(np.log2(np.where(most, most, 1))) - _BITS)
    coarse, coarse_start = _round(values, quantum), _round(start, quantum)
    if np.array_equal(coarse, values) and np.array_equal(coarse_start, start):
        halves, starts = [values], [start]
    else:
        halves, starts = [coarse, values - coarse], [coarse_start, start - coarse_start]
    attributes = _describe(trees, halves, len(weights))
    if start.any():
        attributes["base_values_as_tensor"] = _doubles(np.concatenate(starts))
    sums = nodes.add("TreeEnsembleRegressor", [nodes.take()], 3, ML, **attributes)
    wide = nodes.add("Cast", [sums], to=TensorProto.DOUBLE)
    stacked = np.concatenate([weights] * len(halves))
    return nodes.combine(wide, stacked, None if bias is None else np.asarray(bias))


def _describe(trees: Sequence[_Tree], halves: Sequence[Array], targets: int) -> dict[str, Any]:
    """Describe all trees: node by node in parallel lists, as the operator wants them."""

    def join(parts: Iterable[Any]) -> Array:
        return np.concatenate(list(parts))

    leaf = join(tree.leaf for tree in trees)
    tree_of = join(np.full(len(tree.leaf), number) for number, tree in enumerate(trees))
    node_of = join(np.arange(len(tree.leaf)) for tree in trees)
    first = join(np.full(len(tree.leaf), tree.target) for tree in trees)[leaf]
    columns = np.arange(halves[0].shape[1])
    target_of = np.hstack([first[:, None] + columns + i * targets for i in range(len(halves))])
    values = np.hstack(halves)
    kept = values != 0
    kept[:, 0] = True  # every leaf has a value
    row, _ = np.nonzero(kept)
    return {
        "n_targets": targets * len(halves),
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        "nodes_treeids": tree_of.tolist(),
        "nodes_nodeids": node_of.tolist(),
        "nodes_featureids": np.where(leaf, 0, join(t.features for t in trees)).tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_values_as_tensor": _doubles(np.where(leaf, 0, join(t.thresholds for t in trees))),
        "nodes_truenodeids": np.where(leaf, 0, join(t.left for t in trees)).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, join(t.right for t in trees)).tolist(),
        "nodes_missing_value_tracks_true": join(t.missing_go_left for t in trees)
        .astype(int)
        .tolist(),
        "target_treeids": tree_of[leaf][row].tolist(),
        "target_nodeids": node_of[leaf][row].tolist(),
        "target_ids": target_of[kept].tolist(),
        "target_weights_as_tensor": _doubles(values[kept]),
    }


def _round(values: Array, quantum: Array) -> Array:
    return np.round(values / quantum) * quantum


def _doubles(values: Array) -> Any:
    return helper.make_tensor("values", TensorProto.DOUBLE, [len(values)], values.tolist())
