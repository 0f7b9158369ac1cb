"""Checks of models that keep rows to compare with: vectors, neighbours, centres, factors."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.cluster import Birch, BisectingKMeans, KMeans, MiniBatchKMeans
from sklearn.decomposition import NMF, LatentDirichletAllocation, MiniBatchNMF
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import KernelDensity
from sklearn.neighbors._base import NeighborsBase
from sklearn.svm._base import BaseLibSVM

from webapp.ml.loading.arrays import is_array
from webapp.ml.loading.natives import INDEXES
from webapp.ml.loading.refusals import OUT, demand

# Distances that need nothing but two rows; others have matrices of a size that nobody compares.
_METRIC_NAMES: Final = (
    "braycurtis canberra chebyshev cityblock cosine correlation dice euclidean hamming infinity"
    " jaccard l1 l2 manhattan minkowski nan_euclidean p precomputed rogerstanimoto russellrao"
    " sokalsneath sqeuclidean yule"
)
_METRICS: Final = frozenset(_METRIC_NAMES.split())


def _check_support_vectors(estimator: Any) -> None:
    if not hasattr(estimator, "_n_support"):
        return
    rows = len(estimator.support_)
    counts, dual = estimator._n_support, estimator._dual_coef_
    is_int = [array.dtype == np.int32 for array in (estimator.support_, counts)]
    demand(all(is_int) and counts.ndim == 1, "odd support vectors")
    classes = len(counts) if is_classifier(estimator) else 2
    pairs = classes * (classes - 1) // 2
    total = int(counts.sum()) if is_classifier(estimator) else int(counts[0])
    demand(len(counts) >= 2 and bool((counts >= 0).all()), "odd support vectors")
    demand(total == rows, "other support vectors than counted", OUT)
    # scipy may hold a sparse model's coefficients as a sparse matrix.
    demand(dual.shape == (classes - 1, rows), "other coefficients than vectors", OUT)
    demand(estimator._intercept_.shape == (pairs,), "other intercepts than classes", OUT)
    for shares in (estimator._probA, estimator._probB):
        demand(
            is_array(shares, len(shares)) and len(shares) in (0, 1, pairs),
            "odd shares",
            OUT,
        )
    if is_classifier(estimator):
        demand(len(estimator.classes_) == classes, "other labels than classes", OUT)
    _check_vectors(estimator, rows)


def _check_vectors(estimator: Any, rows: int) -> None:
    vectors = estimator.support_vectors_
    if estimator.kernel == "precomputed":
        # The numbers of the vectors are then columns of X.
        inside = (estimator.support_ >= 0) & (estimator.support_ < estimator.n_features_in_)
        demand(bool(inside.all()), "a support vector out of range", OUT)
        demand(estimator.shape_fit_[0] == estimator.n_features_in_, "odd support vectors", OUT)
        return
    demand(estimator.kernel in ("linear", "poly", "rbf", "sigmoid"), "an odd kernel")
    demand(vectors.shape == (rows, estimator.n_features_in_), "odd support vectors", OUT)
    demand(issparse(vectors) == bool(estimator._sparse), "odd support vectors")


def _check_centres(estimator: Any) -> None:
    centres = getattr(estimator, "cluster_centers_", None)
    if centres is not None:
        fits = is_array(centres, None, estimator.n_features_in_) and len(centres) > 0
        demand(fits, "cluster centres of another width", OUT)


def _check_bisections(estimator: Any) -> None:
    """Demand that each level of a bisection has centres of the model's width."""
    waiting = [root] if (root := getattr(estimator, "_bisecting_tree", None)) is not None else []
    while waiting:
        node = waiting.pop()
        centre = node.center
        demand(
            is_array(centre, estimator.n_features_in_),
            "cluster centres of another width",
            OUT,
        )
        waiting += [each for each in (node.left, node.right) if each is not None]


def _check_birch(estimator: Any) -> None:
    centres = getattr(estimator, "subcluster_centers_", None)
    if centres is not None:
        demand(is_array(centres, None, estimator.n_features_in_), "odd cluster centres", OUT)
        demand(is_array(estimator._subcluster_norms, len(centres)), "odd cluster centres", OUT)


def _check_neighbours(estimator: Any) -> None:
    points = getattr(estimator, "_fit_X", None)
    if points is None:
        return
    demand(points.ndim == 2 and points.shape[0] > 0, "odd neighbours")
    demand(points.shape[1] == estimator.n_features_in_, "neighbours of another width", OUT)
    index = getattr(estimator, "_tree", None)
    demand(index is None or isinstance(index, INDEXES), "an odd neighbour index")
    demand(index is None or index.data.shape == points.shape, "an odd neighbour index", OUT)
    labels = getattr(estimator, "_y", None)
    demand(labels is None or len(labels) == points.shape[0], "odd neighbour labels", OUT)
    _check_metric(estimator)


def _check_metric(estimator: Any) -> None:
    metric = estimator.effective_metric_
    demand(isinstance(metric, DistanceMetric) or metric in _METRICS, "an odd distance")
    parameters = estimator.effective_metric_params_ or {}
    plain = type(parameters) is dict and set(parameters) <= {"p", "w"}
    demand(plain and parameters.get("w") is None, "a distance with weights")
    demand(type(parameters.get("p", 2)) in (int, float), "an odd distance")


def _check_density(estimator: Any) -> None:
    index = getattr(estimator, "tree_", None)
    if index is not None:
        demand(isinstance(index, INDEXES), "an odd neighbour index")
        fits = index.data.shape[1] == estimator.n_features_in_
        demand(fits, "a neighbour index of another width", OUT)


def _check_factors(estimator: Any) -> None:
    parts = getattr(estimator, "components_", None)
    if parts is not None:
        count = getattr(estimator, "n_components_", None) or estimator.n_components
        fits = is_array(parts, count, estimator.n_features_in_)
        demand(fits, "components of another width", OUT)


ROW_CHECKS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], None]], ...]] = (
    (BaseLibSVM, _check_support_vectors),
    ((KMeans, MiniBatchKMeans, BisectingKMeans), _check_centres),
    (BisectingKMeans, _check_bisections),
    (Birch, _check_birch),
    (NeighborsBase, _check_neighbours),
    (KernelDensity, _check_density),
    ((NMF, MiniBatchNMF, LatentDirichletAllocation), _check_factors),
)
