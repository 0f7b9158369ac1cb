"""Checks that the parts of a whole model fit each other.

Compiled code reads by the indexes that it finds in these arrays, and mostly does not look whether
they lie inside: a wrong one reads foreign memory, crashes a worker or answers nonsense.
"""

import math
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, Final

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.cluster import Birch, BisectingKMeans, KMeans, MiniBatchKMeans
from sklearn.decomposition import NMF, LatentDirichletAllocation, MiniBatchNMF
from sklearn.ensemble import IsolationForest
from sklearn.ensemble._bagging import BaseBagging
from sklearn.ensemble._forest import BaseForest
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.gaussian_process.kernels import Kernel
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import KernelDensity
from sklearn.neighbors._base import NeighborsBase
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures
from sklearn.svm._base import BaseLibSVM
from sklearn.tree import BaseDecisionTree, DecisionTreeRegressor
from sklearn.tree._tree import Tree

from webapp.ml.graph import MAX_HASHED_FEATURES, walk
from webapp.ml.loading.arrays import PLAIN
from webapp.ml.loading.natives import INDEXES, check_branches, check_features
from webapp.ml.loading.refusals import demand, rejected

MAX_FEATURES: Final = 1_000_000
MAX_POLYNOMIALS: Final = 100_000
_MAX_DEGREE: Final = 100
# A category is a bit in a set of 256, which compiled code writes without looking.
_MAX_CATEGORY: Final = 255
_OUT: Final = "array_out_of_range"
# Distances that need nothing but two rows; others have matrices of a size that nobody compares.
_METRIC_NAMES: Final = (
    "braycurtis canberra chebyshev cityblock cosine correlation dice euclidean hamming infinity"
    " jaccard l1 l2 manhattan minkowski nan_euclidean p precomputed rogerstanimoto russellrao"
    " sokalsneath sqeuclidean yule"
)
_METRICS: Final = frozenset(_METRIC_NAMES.split())


def check_parts(root: Any) -> None:
    """Refuse a model in whose parts an index leads out of an array, or that would call something.

    Raises
    ------
    ModelRejectedError : what does not fit
    """
    parts = list(walk(root))
    for part in parts:
        width = getattr(part, "n_features_in_", 1)
        demand(_is_count(width, MAX_FEATURES), "an odd width", "limits")
        _check_callables(part)
        for cls, check in _CHECKS:
            if isinstance(part, cls):
                check(part)
    # Asks a part for a prediction, hence after all of them were looked at.
    for part in parts:
        if isinstance(part, BaseGradientBoosting):
            _check_boosting_start(part)


def _check_callables(part: Any) -> None:
    """Demand that nothing but numpy's functions is called while predicting."""
    for attribute, allowed in _CALLED_WHILE_PREDICTING.items():
        value = vars(part).get(attribute)
        if callable(value) and not isinstance(value, allowed):
            raise rejected(
                "unsafe_parameter",
                f"the parameter {attribute} must be the name of a method, not an object that is"
                " called",
                parameter=attribute,
            )


_CALLED_WHILE_PREDICTING: Final[dict[str, tuple[type, ...]]] = {
    "affinity": (),
    "effective_metric_": (DistanceMetric,),
    # A partial function is only ever made of check_array.
    "func": (np.ufunc, FunctionType, partial),
    "inverse_func": (np.ufunc, FunctionType),
    "importance_getter": (),
    "kernel": (Kernel,),
    "kernel_": (Kernel,),
    "metric": (DistanceMetric,),
    "weights": (),
}


def _is_count(number: Any, most: int) -> bool:
    return isinstance(number, (int, np.integer)) and bool(0 <= number <= most)


def _is(array: Any, *shape: int | None, kinds: str = "f") -> bool:
    """Whether something is an array of so many items in each direction; None is any number."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype.kind in kinds
        and array.ndim == len(shape)
        and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    )


def _check_decision_tree(estimator: Any) -> None:
    tree = getattr(estimator, "tree_", None)
    if tree is None:
        return
    demand(isinstance(tree, Tree), "an odd decision tree")
    fits = tree.n_features == estimator.n_features_in_
    demand(fits, "a tree of another width", "tree_out_of_range")
    demand(tree.n_outputs == estimator.n_outputs_, "a tree of other outputs", "tree_out_of_range")
    if is_classifier(estimator):
        single = estimator.n_outputs_ == 1
        labels = [estimator.classes_] if single else estimator.classes_
        counts = [len(each) for each in labels]
        same = counts == tree.n_classes.tolist()
        demand(same, "a tree of other classes", "tree_out_of_range")


def _check_member(tree: Any, width: int) -> None:
    demand(isinstance(tree, BaseDecisionTree) and hasattr(tree, "tree_"), "an odd member")
    demand(tree.n_features_in_ == width, "a member of another width", "tree_out_of_range")


def _check_forest(estimator: Any) -> None:
    for tree in getattr(estimator, "estimators_", ()):
        _check_member(tree, estimator.n_features_in_)
        same = tree.n_outputs_ == estimator.n_outputs_
        demand(same, "a member of other outputs", "tree_out_of_range")


def _check_bagging(estimator: Any) -> None:
    members = getattr(estimator, "estimators_", ())
    if not len(members):
        return
    chosen = estimator.estimators_features_
    demand(len(chosen) == len(members), "other features than members")
    for member, features in zip(members, chosen, strict=True):
        demand(_is(features, None, kinds="iu"), "odd features of a member")
        inside = bool(((features >= 0) & (features < estimator.n_features_in_)).all())
        demand(inside, "a member's feature out of range", _OUT)
        if isinstance(estimator, IsolationForest):
            _check_member(member, len(features))


def _check_boosting(estimator: Any) -> None:
    stages = getattr(estimator, "estimators_", None)
    if stages is None:
        return
    demand(isinstance(stages, np.ndarray) and stages.ndim == 2, "odd boosting stages")
    columns = 1
    if is_classifier(estimator) and len(estimator.classes_) > 2:
        columns = len(estimator.classes_)
    fits = stages.shape[1] == columns == estimator.n_trees_per_iteration_
    demand(fits, "boosting stages for other classes", "tree_out_of_range")
    for tree in stages.ravel():
        _check_member(tree, estimator.n_features_in_)
        demand(isinstance(tree, DecisionTreeRegressor), "an odd boosting stage")
        single = tree.tree_.value.shape[1:] == (1, 1)
        demand(single, "a stage of several outputs", "tree_out_of_range")


def _check_boosting_start(estimator: Any) -> None:
    """The stages write as many columns as they are into what the first guess has made."""
    if hasattr(estimator, "estimators_"):
        guess = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))
        fits = guess.shape == (1, estimator.estimators_.shape[1]) and guess.dtype == np.float64
        demand(fits, "a first guess for other classes", _OUT)


def _check_histogram_boosting(estimator: Any) -> None:
    stages = getattr(estimator, "_predictors", None)
    if stages is None:
        return
    columns = estimator.n_trees_per_iteration_
    demand(type(columns) is int and columns > 0, "odd boosting stages")
    demand(type(stages) is list, "odd boosting stages")
    mapper: Any = getattr(estimator, "_bin_mapper", None)
    demand(isinstance(mapper, _BinMapper), "odd bins")
    demand(_is(mapper.is_categorical_, estimator.n_features_in_, kinds="bu"), "odd bins", _OUT)
    _check_categories(mapper)
    for stage in stages:
        demand(type(stage) is list and len(stage) == columns, "odd stages", "tree_out_of_range")
        for tree in stage:
            demand(isinstance(tree, TreePredictor), "an odd boosting stage")
            _check_histogram_tree(tree, estimator.n_features_in_)


def _check_categories(mapper: Any) -> None:
    thresholds = mapper.bin_thresholds_
    demand(len(thresholds) == len(mapper.is_categorical_), "odd bins", _OUT)
    for position in np.flatnonzero(mapper.is_categorical_):
        values = thresholds[position]
        demand(isinstance(values, np.ndarray) and values.dtype.kind in "fiu", "odd categories")
        inside = bool(((values >= 0) & (values <= _MAX_CATEGORY)).all())
        demand(inside, "a category out of range", _OUT)


def _check_histogram_tree(tree: Any, n_features: int) -> None:
    nodes = tree.nodes
    demand(isinstance(nodes, np.ndarray) and nodes.ndim == 1 and len(nodes) > 0, "odd tree")
    demand(nodes.dtype == PREDICTOR_RECORD_DTYPE, "odd tree")
    is_leaf = nodes["is_leaf"] != 0
    check_branches(nodes["left"], nodes["right"], is_leaf, "boosting tree")
    check_features(nodes["feature_idx"][~is_leaf], n_features, "boosting tree")
    by_category = nodes["bitset_idx"][~is_leaf & (nodes["is_categorical"] != 0)]
    for sets in (tree.raw_left_cat_bitsets, tree.binned_left_cat_bitsets):
        demand(_is(sets, None, 8, kinds="u") and sets.dtype == np.uint32, "odd sets of categories")
        inside = bool((by_category < len(sets)).all())
        demand(inside, "a node's set of categories out of range", "tree_out_of_range")


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
    demand(total == rows, "other support vectors than counted", _OUT)
    # scipy may hold a sparse model's coefficients as a sparse matrix.
    demand(dual.shape == (classes - 1, rows), "other coefficients than vectors", _OUT)
    demand(estimator._intercept_.shape == (pairs,), "other intercepts than classes", _OUT)
    for shares in (estimator._probA, estimator._probB):
        demand(_is(shares, len(shares)) and len(shares) in (0, 1, pairs), "odd shares", _OUT)
    if is_classifier(estimator):
        demand(len(estimator.classes_) == classes, "other labels than classes", _OUT)
    _check_vectors(estimator, rows)


def _check_vectors(estimator: Any, rows: int) -> None:
    vectors = estimator.support_vectors_
    if estimator.kernel == "precomputed":
        # The numbers of the vectors are then columns of X.
        inside = (estimator.support_ >= 0) & (estimator.support_ < estimator.n_features_in_)
        demand(bool(inside.all()), "a support vector out of range", _OUT)
        demand(estimator.shape_fit_[0] == estimator.n_features_in_, "odd support vectors", _OUT)
        return
    demand(estimator.kernel in ("linear", "poly", "rbf", "sigmoid"), "an odd kernel")
    demand(vectors.shape == (rows, estimator.n_features_in_), "odd support vectors", _OUT)
    demand(issparse(vectors) == bool(estimator._sparse), "odd support vectors")


def _check_centres(estimator: Any) -> None:
    centres = getattr(estimator, "cluster_centers_", None)
    if centres is not None:
        fits = _is(centres, None, estimator.n_features_in_) and len(centres) > 0
        demand(fits, "cluster centres of another width", _OUT)


def _check_bisections(estimator: Any) -> None:
    """Demand that each level of a bisection has centres of the model's width."""
    waiting = [root] if (root := getattr(estimator, "_bisecting_tree", None)) is not None else []
    while waiting:
        node = waiting.pop()
        centre = node.center
        demand(_is(centre, estimator.n_features_in_), "cluster centres of another width", _OUT)
        waiting += [each for each in (node.left, node.right) if each is not None]


def _check_birch(estimator: Any) -> None:
    centres = getattr(estimator, "subcluster_centers_", None)
    if centres is not None:
        demand(_is(centres, None, estimator.n_features_in_), "odd cluster centres", _OUT)
        demand(_is(estimator._subcluster_norms, len(centres)), "odd cluster centres", _OUT)


def _check_neighbours(estimator: Any) -> None:
    points = getattr(estimator, "_fit_X", None)
    if points is None:
        return
    demand(points.ndim == 2 and points.shape[0] > 0, "odd neighbours")
    demand(points.shape[1] == estimator.n_features_in_, "neighbours of another width", _OUT)
    index = getattr(estimator, "_tree", None)
    demand(index is None or isinstance(index, INDEXES), "an odd neighbour index")
    demand(index is None or index.data.shape == points.shape, "an odd neighbour index", _OUT)
    labels = getattr(estimator, "_y", None)
    demand(labels is None or len(labels) == points.shape[0], "odd neighbour labels", _OUT)
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
        demand(fits, "a neighbour index of another width", _OUT)


def _check_factors(estimator: Any) -> None:
    parts = getattr(estimator, "components_", None)
    if parts is not None:
        count = getattr(estimator, "n_components_", None) or estimator.n_components
        fits = _is(parts, count, estimator.n_features_in_)
        demand(fits, "components of another width", _OUT)


def _check_vocabulary(vectorizer: Any) -> None:
    """Demand that words are numbered without a gap: the numbers become columns, unchecked."""
    words = getattr(vectorizer, "vocabulary_", None)
    if words is None:
        return
    demand(isinstance(words, dict), "an odd vocabulary")
    numbers = list(words.values())
    whole = all(isinstance(number, (int, np.integer)) for number in numbers)
    demand(whole, "an odd vocabulary")
    demand(sorted(numbers) == list(range(len(words))), "a word's number out of range", _OUT)


def _check_hasher(hasher: Any) -> None:
    count = hasher.n_features
    demand(_is_count(count, MAX_HASHED_FEATURES), "too many hashed columns", "limits")
    demand(count > 0, "no hashed columns", _OUT)  # compiled code divides by it


def _check_one_hot(encoder: Any) -> None:
    """Demand that its columns are those of its categories: their sums become indexes."""
    if not hasattr(encoder, "categories_"):
        return
    widths = encoder._n_features_outs
    demand(widths == encoder._compute_n_features_outs(), "odd columns of categories", _OUT)
    mappings = getattr(encoder, "_default_to_infrequent_mappings", None) or ()
    for mapping, width in zip(mappings, widths, strict=bool(mappings)):
        if mapping is not None:
            demand(_is(mapping, None, kinds="iu"), "odd rare categories")
            # One category may be dropped, and is then not counted.
            inside = bool(((mapping >= 0) & (mapping <= width)).all())
            demand(inside, "a rare category out of range", _OUT)


def _check_function(transformer: Any) -> None:
    for arguments in (transformer.kw_args, transformer.inv_kw_args):
        # "out" would be written to.
        plain = arguments is None or all(
            type(value) in PLAIN and key != "out" for key, value in arguments.items()
        )
        demand(plain, "arguments of a function that are no plain values", "unsafe_parameter")


def _check_polynomials(transformer: Any) -> None:
    width = getattr(transformer, "n_features_in_", None)
    if width is None:
        return
    degree = transformer.degree
    highest = degree[1] if isinstance(degree, tuple) and len(degree) == 2 else degree
    demand(type(highest) is int and 0 <= highest <= _MAX_DEGREE, "an odd degree")
    most = math.comb(width + highest, highest)
    if transformer.interaction_only:
        most = sum(math.comb(width, size) for size in range(highest + 1))
    demand(most <= MAX_POLYNOMIALS, f"more than {MAX_POLYNOMIALS} polynomials", "limits")


_CHECKS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], None]], ...]] = (
    (BaseDecisionTree, _check_decision_tree),
    (BaseForest, _check_forest),
    (BaseBagging, _check_bagging),
    (BaseGradientBoosting, _check_boosting),
    (BaseHistGradientBoosting, _check_histogram_boosting),
    (BaseLibSVM, _check_support_vectors),
    ((KMeans, MiniBatchKMeans, BisectingKMeans), _check_centres),
    (BisectingKMeans, _check_bisections),
    (Birch, _check_birch),
    (NeighborsBase, _check_neighbours),
    (KernelDensity, _check_density),
    ((NMF, MiniBatchNMF, LatentDirichletAllocation), _check_factors),
    ((CountVectorizer, DictVectorizer), _check_vocabulary),
    ((FeatureHasher, HashingVectorizer), _check_hasher),
    (OneHotEncoder, _check_one_hot),
    (FunctionTransformer, _check_function),
    (PolynomialFeatures, _check_polynomials),
)
