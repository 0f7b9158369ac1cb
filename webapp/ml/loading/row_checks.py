"""Checks of models that keep rows to compare with: vectors, neighbours, centres, factors."""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.cluster import Birch, BisectingKMeans, KMeans, MiniBatchKMeans
from sklearn.decomposition import NMF, LatentDirichletAllocation, MiniBatchNMF
from sklearn.dummy import DummyRegressor
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import KernelDensity, KNeighborsClassifier
from sklearn.neighbors._base import NeighborsBase
from sklearn.svm._base import BaseLibSVM

from webapp.ml.loading.arrays import is_array, is_count
from webapp.ml.loading.natives import INDEXES
from webapp.ml.loading.refusals import OUT, demand

# Distances that need nothing but two rows; others have matrices of a size that nobody compares.
_METRIC_NAMES: Final = (
    "braycurtis canberra chebyshev cityblock cosine correlation dice euclidean hamming infinity"
    " jaccard l1 l2 manhattan minkowski nan_euclidean p precomputed rogerstanimoto russellrao"
    " sokalsneath sqeuclidean yule"
)
_METRICS: Final = frozenset(_METRIC_NAMES.split())
_KERNELS: Final = ("linear", "poly", "rbf", "sigmoid")


def _check_support_vectors(estimator: Any) -> None:
    if not hasattr(estimator, "_n_support"):
        return
    counts, support = estimator._n_support, estimator.support_
    demand(support.dtype == counts.dtype == np.int32, "odd support vectors")
    demand(support.ndim == counts.ndim == 1, "odd support vectors")
    rows = len(support)
    # Without classes, libsvm has two all the same, and counts all vectors for the first.
    classes = len(estimator.classes_) if is_classifier(estimator) else 2
    pairs = classes * (classes - 1) // 2
    demand(len(counts) == classes >= 2, "other labels than classes", OUT)
    demand(bool((counts >= 0).all()), "odd support vectors")
    total = counts.sum() if is_classifier(estimator) else counts[0]
    demand(int(total) == rows, "other support vectors than counted", OUT)
    demand(estimator._intercept_.shape == (pairs,), "other intercepts than classes", OUT)
    _check_shares(estimator, pairs)
    if estimator._sparse:
        _check_sparse_vectors(estimator, classes, rows)
    else:
        _check_dense_vectors(estimator, classes, rows)


def _check_shares(estimator: Any, pairs: int) -> None:
    slopes, offsets = estimator._probA, estimator._probB
    demand(is_array(slopes, None) and is_array(offsets, None), "odd shares")
    demand(len(slopes) == len(offsets) in (0, pairs), "odd shares", OUT)
    # Of a sparse model they are copied whenever it says that it has them.
    are_used = bool(getattr(estimator, "_effective_probability", False))
    demand(len(slopes) == pairs or not are_used, "no shares", OUT)


def _check_sparse_vectors(estimator: Any, classes: int, rows: int) -> None:
    """Demand vectors by rows, with all coefficients: only their bare numbers are handed on."""
    vectors, dual = estimator.support_vectors_, estimator._dual_coef_
    demand(estimator.kernel in _KERNELS, "an odd kernel")
    demand(issparse(vectors) and issparse(dual), "odd support vectors")
    shape = (rows, estimator.n_features_in_)
    demand(vectors.format == "csr" and vectors.shape == shape, "odd support vectors", OUT)
    shape = (classes - 1, rows)
    is_full = dual.shape == shape and len(dual.data) == math.prod(shape)
    demand(is_full, "other coefficients than vectors", OUT)


def _check_dense_vectors(estimator: Any, classes: int, rows: int) -> None:
    support, width = estimator.support_, estimator.n_features_in_
    fits = is_array(estimator._dual_coef_, classes - 1, rows)
    demand(fits, "other coefficients than vectors", OUT)
    if estimator.kernel == "precomputed":
        # The numbers of the vectors are then columns of X.
        inside = bool(((support >= 0) & (support < width)).all())
        demand(inside, "a support vector out of range", OUT)
        demand(estimator.shape_fit_[0] == width, "odd support vectors", OUT)
        return
    demand(estimator.kernel in _KERNELS, "an odd kernel")
    demand(is_array(estimator.support_vectors_, rows, width), "odd support vectors", OUT)


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
    rows = points.shape[0]
    demand(points.ndim == 2 and rows > 0, "odd neighbours")
    demand(points.shape[1] == estimator.n_features_in_, "neighbours of another width", OUT)
    # How many may be asked for is compared with this.
    demand(estimator.n_samples_fit_ == rows, "other neighbours than counted", OUT)
    index = getattr(estimator, "_tree", None)
    demand(index is None or isinstance(index, INDEXES), "an odd neighbour index")
    demand(index is None or index.data.shape == points.shape, "an odd neighbour index", OUT)
    labels = getattr(estimator, "_y", None)
    demand(labels is None or len(labels) == rows, "odd neighbour labels", OUT)
    if is_classifier(estimator):
        _check_labels(estimator, rows)
    if isinstance(estimator, KNeighborsClassifier):
        # Votes are counted without asking how many points there are.
        most = is_count(estimator.n_neighbors, rows) and estimator.n_neighbors > 0
        demand(most, "more neighbours than points", OUT)
    _check_metric(estimator.effective_metric_, estimator.effective_metric_params_)
    _check_metric(estimator.metric, estimator.metric_params)


def _check_labels(estimator: Any, rows: int) -> None:
    """Demand labels that are numbers of classes: compiled code adds a vote at that place."""
    labels, classes = estimator._y, estimator.classes_
    if estimator.outputs_2d_:
        fits = is_array(labels, rows, len(classes), kinds="i")
        counts = np.array([len(each) for each in classes])
    else:
        fits = is_array(labels, rows, kinds="i")
        counts = np.array(len(classes))
    demand(fits, "odd neighbour labels", OUT)
    inside = bool(((labels >= 0) & (labels < counts)).all())
    demand(inside, "a neighbour's label out of range", OUT)


def _check_metric(metric: Any, parameters: Any) -> None:
    demand(isinstance(metric, DistanceMetric) or metric in _METRICS, "an odd distance")
    parameters = parameters or {}
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
        weights = vars(estimator).get("_n_components", count)
        demand(weights == count, "other weights than components", OUT)


def _check_constant(estimator: Any) -> None:
    constant = getattr(estimator, "constant_", None)
    if constant is not None:
        fits = np.shape(constant) == (1, estimator.n_outputs_)
        demand(fits, "other outputs than counted", OUT)


ROW_CHECKS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], None]], ...]] = (
    (BaseLibSVM, _check_support_vectors),
    ((KMeans, MiniBatchKMeans, BisectingKMeans), _check_centres),
    (BisectingKMeans, _check_bisections),
    (Birch, _check_birch),
    (NeighborsBase, _check_neighbours),
    (KernelDensity, _check_density),
    ((NMF, MiniBatchNMF, LatentDirichletAllocation), _check_factors),
    (DummyRegressor, _check_constant),
)
