"""Checks that the parts of a whole model fit each other.

Compiled code reads by the indexes that it finds in these arrays, and mostly does not look whether
they lie inside: a wrong one reads foreign memory, or crashes a worker.
"""

from typing import Any

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.neighbors._base import NeighborsBase
from sklearn.tree import BaseDecisionTree

from webapp.ml.graph import walk
from webapp.ml.loading.builders import demand


def check_parts(root: Any) -> None:
    """Refuse a model in whose parts an index leads out of an array.

    Raises
    ------
    ModelRejectedError : what does not fit
    """
    for part in walk(root):
        for cls, check in _CHECKS:
            if isinstance(part, cls) and hasattr(part, "n_features_in_"):
                check(part)


def _check_decision_tree(estimator: Any) -> None:
    if hasattr(estimator, "tree_"):
        demand(estimator.tree_.n_features == estimator.n_features_in_, "a tree of another width")


def _check_boosting(estimator: Any) -> None:
    stages = getattr(estimator, "estimators_", None)
    if stages is None:
        return
    demand(isinstance(stages, np.ndarray) and stages.ndim == 2, "odd boosting stages")
    demand(stages.shape[1] == estimator.n_trees_per_iteration_, "odd boosting stages")
    for tree in stages.ravel():
        demand(isinstance(tree, BaseDecisionTree) and hasattr(tree, "tree_"), "odd boosting stage")
        demand(tree.tree_.n_features == estimator.n_features_in_, "a stage of another width")


def _check_histogram_boosting(estimator: Any) -> None:
    for stage in getattr(estimator, "_predictors", ()):
        demand(len(stage) == estimator.n_trees_per_iteration_, "odd boosting stages")
        for tree in stage:
            _check_histogram_tree(tree, estimator.n_features_in_)


def _check_histogram_tree(tree: Any, n_features: int) -> None:
    nodes, bitsets = tree.nodes, tree.raw_left_cat_bitsets
    demand(isinstance(nodes, np.ndarray) and nodes.ndim == 1 and len(nodes) > 0, "odd tree")
    demand(nodes.dtype == PREDICTOR_RECORD_DTYPE, "odd tree")
    inner = nodes[nodes["is_leaf"] == 0]
    own = np.flatnonzero(nodes["is_leaf"] == 0)
    for side in ("left", "right"):
        child = inner[side].astype(np.int64)
        demand(bool(((child > own) & (child < len(nodes))).all()), "a node's child out of range")
    feature = inner["feature_idx"]
    demand(bool(((feature >= 0) & (feature < n_features)).all()), "a node's feature out of range")
    demand(isinstance(bitsets, np.ndarray) and bitsets.dtype == np.uint32, "odd category sets")
    demand(bitsets.ndim == 2 and bitsets.shape[1] == 8, "odd category sets")
    by_category = inner["bitset_idx"][inner["is_categorical"] != 0]
    demand(bool((by_category < len(bitsets)).all()), "a node's category set out of range")


def _check_centres(estimator: Any) -> None:
    centres: Any = getattr(estimator, "cluster_centers_", None)
    demand(isinstance(centres, np.ndarray) and centres.ndim == 2, "odd cluster centres")
    demand(len(centres) > 0 and centres.shape[1] == estimator.n_features_in_, "odd centres")


def _check_neighbours(estimator: Any) -> None:
    points = getattr(estimator, "_fit_X", None)
    if points is None:
        return
    demand(points.ndim == 2 and points.shape[1] == estimator.n_features_in_, "odd neighbours")
    index = getattr(estimator, "_tree", None)
    demand(index is None or index.data.shape == points.shape, "odd neighbour index")
    labels = getattr(estimator, "_y", None)
    demand(labels is None or len(labels) == points.shape[0], "odd neighbour labels")


_CHECKS = (
    (BaseDecisionTree, _check_decision_tree),
    (BaseGradientBoosting, _check_boosting),
    (BaseHistGradientBoosting, _check_histogram_boosting),
    ((KMeans, MiniBatchKMeans), _check_centres),
    (NeighborsBase, _check_neighbours),
)
