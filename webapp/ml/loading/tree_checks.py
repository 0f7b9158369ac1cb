"""Checks of trees and of what is made of them: members that fit their ensemble."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest
from sklearn.ensemble._bagging import BaseBagging
from sklearn.ensemble._forest import BaseForest
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder
from sklearn.tree import BaseDecisionTree, DecisionTreeRegressor
from sklearn.tree._tree import Tree

from webapp.ml.loading.arrays import is_array
from webapp.ml.loading.natives import check_branches, check_features
from webapp.ml.loading.refusals import OUT, demand

# A category is a bit in a set of 256, which compiled code writes without looking.
_MAX_CATEGORY: Final = 255


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
        demand(is_array(features, None, kinds="iu"), "odd features of a member")
        inside = bool(((features >= 0) & (features < estimator.n_features_in_)).all())
        demand(inside, "a member's feature out of range", OUT)
        if isinstance(estimator, IsolationForest):
            _check_member(member, len(features))


def _check_boosting(estimator: Any) -> None:
    stages = getattr(estimator, "estimators_", None)
    if stages is None:
        return
    demand(isinstance(stages, np.ndarray) and stages.ndim == 2, "odd boosting stages")
    columns = _count_stage_columns(estimator)
    fits = stages.shape[1] == columns == estimator.n_trees_per_iteration_
    demand(fits, "boosting stages for other classes", "tree_out_of_range")
    for tree in stages.ravel():
        _check_member(tree, estimator.n_features_in_)
        demand(isinstance(tree, DecisionTreeRegressor), "an odd boosting stage")
        single = tree.tree_.value.shape[1:] == (1, 1)
        demand(single, "a stage of several outputs", "tree_out_of_range")


def _count_stage_columns(estimator: Any) -> int:
    """Tell how many trees a stage has: one for each class, of which two share one."""
    classes = len(estimator.classes_) if is_classifier(estimator) else 1
    return classes if classes > 2 else 1


def check_first_guess(estimator: Any) -> None:
    """Demand that boosting's first guess has the columns that its stages write into."""
    if hasattr(estimator, "estimators_"):
        guess = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))
        fits = guess.shape == (1, estimator.estimators_.shape[1]) and guess.dtype == np.float64
        demand(fits, "a first guess for other classes", OUT)


def _check_histogram_boosting(estimator: Any) -> None:
    stages = getattr(estimator, "_predictors", None)
    if stages is None:
        return
    # While it is fitted, it takes X as it comes.
    demand(not getattr(estimator, "_in_fit", False), "boosting that is not ended")
    columns = estimator.n_trees_per_iteration_
    demand(columns == _count_stage_columns(estimator), "odd boosting stages", "tree_out_of_range")
    demand(type(stages) is list, "odd boosting stages")
    mapper, width = estimator._bin_mapper, estimator.n_features_in_
    demand(isinstance(mapper, _BinMapper), "odd bins")
    demand(is_array(mapper.is_categorical_, width, kinds="bu"), "odd bins", OUT)
    _check_categories(mapper)
    if getattr(estimator, "_preprocessor", None) is not None:
        _check_preprocessor(estimator._preprocessor, width)
    for stage in stages:
        demand(type(stage) is list and len(stage) == columns, "odd stages", "tree_out_of_range")
        for tree in stage:
            demand(isinstance(tree, TreePredictor), "an odd boosting stage")
            _check_histogram_tree(tree, mapper.is_categorical_ != 0)


def _check_categories(mapper: Any) -> None:
    thresholds = mapper.bin_thresholds_
    demand(len(thresholds) == len(mapper.is_categorical_), "odd bins", OUT)
    for position in np.flatnonzero(mapper.is_categorical_):
        values = thresholds[position]
        demand(isinstance(values, np.ndarray) and values.dtype.kind in "fiu", "odd categories")
        inside = bool(((values >= 0) & (values <= _MAX_CATEGORY)).all())
        demand(inside, "a category out of range", OUT)


def _check_preprocessor(transformer: Any, width: int) -> None:
    """Demand that every column is handed on to the trees, once: they do not count them again."""
    demand(type(transformer) is ColumnTransformer, "an odd step before boosting")
    # The third drops nothing, since nothing remains.
    names, parts, chosen = zip(*transformer.transformers_[:2], strict=True)
    kinds = [type(part) for part in parts]
    as_fitted = names == ("encoder", "numerical") and kinds == [OrdinalEncoder, FunctionTransformer]
    demand(as_fitted, "an odd step before boosting")
    masks = all(is_array(mask, width, kinds="b") for mask in chosen)
    demand(masks and bool((chosen[0] != chosen[1]).all()), "columns lost before boosting", OUT)
    for name, mask in zip(names, chosen, strict=True):
        # Of a table, columns are taken by these numbers.
        numbers = list(transformer._transformer_to_input_indices[name])
        demand(numbers == np.flatnonzero(mask).tolist(), "columns lost before boosting", OUT)


def _check_histogram_tree(tree: Any, is_categorical: Any) -> None:
    nodes = tree.nodes
    demand(isinstance(nodes, np.ndarray) and nodes.ndim == 1 and len(nodes) > 0, "odd tree")
    demand(nodes.dtype == PREDICTOR_RECORD_DTYPE, "odd tree")
    is_leaf = nodes["is_leaf"] != 0
    check_branches(nodes["left"], nodes["right"], is_leaf, "boosting tree")
    check_features(nodes["feature_idx"][~is_leaf], len(is_categorical), "boosting tree")
    by_category = nodes[~is_leaf & (nodes["is_categorical"] != 0)]
    known = bool(is_categorical[by_category["feature_idx"]].all())
    demand(known, "a node asks a number for its category", "tree_out_of_range")
    for sets in (tree.raw_left_cat_bitsets, tree.binned_left_cat_bitsets):
        bits = is_array(sets, None, 8, kinds="u") and sets.dtype == np.uint32
        demand(bits, "odd sets of categories")
        inside = bool((by_category["bitset_idx"] < len(sets)).all())
        demand(inside, "a node's set of categories out of range", "tree_out_of_range")


TREE_CHECKS: Final[tuple[tuple[type, Callable[[Any], None]], ...]] = (
    (BaseDecisionTree, _check_decision_tree),
    (BaseForest, _check_forest),
    (BaseBagging, _check_bagging),
    (BaseGradientBoosting, _check_boosting),
    (BaseHistGradientBoosting, _check_histogram_boosting),
)
