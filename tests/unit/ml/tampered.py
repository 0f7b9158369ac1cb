"""Honest models in which a number was changed, so that an index leads out of an array.

They name nothing that honest files do not name: some would crash the reader, some answer nonsense.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.tree._tree import Tree

from tests.estimators import dump
from tests.unit.ml import zoo

_TREE, _ARRAY = "tree_out_of_range", "array_out_of_range"


def _tree(changed: Callable[[dict[str, Any]], None]) -> Callable[[Any], None]:
    """Change the state of a decision tree; scikit-learn itself takes any."""

    def change(model: Any) -> None:
        member = model.estimators_[0] if hasattr(model, "estimators_") else model
        member = member[0] if isinstance(member, np.ndarray) else member
        old = member.tree_
        state = old.__getstate__()
        changed(state)
        new = Tree(old.n_features, old.n_classes, old.n_outputs)
        new.__setstate__(state)
        member.tree_ = new

    return change


def _node(field: str, value: int, node: int = 0) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        state["nodes"][field][node] = value

    return change


def _shared_child(state: dict[str, Any]) -> None:
    state["nodes"]["right_child"][0] = state["nodes"]["left_child"][0]


def _shallow(state: dict[str, Any]) -> None:
    state["max_depth"] = 0


def _set(path: str, value: Any) -> Callable[[Any], None]:
    """Replace an attribute, by its path, by what a function makes of it."""

    def change(model: Any) -> None:
        *way, last = path.split(".")
        for step in way:
            model = model[int(step)] if step.isdigit() else getattr(model, step)
        vars(model)[last] = value(vars(model).get(last))

    return change


def _histogram(field: str, value: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model._predictors[0][0].nodes[field][0] = value

    return change


def _category_set(model: Any) -> None:
    _histogram("is_categorical", 1)(model)
    _histogram("bitset_idx", 9999)(model)


def _narrow(array: Any) -> Any:
    return np.ascontiguousarray(array[:, :-1])


def _fewer(array: Any) -> Any:
    return array[:-1].copy()


def _renumbered(words: dict[Any, Any]) -> dict[Any, Any]:
    return {word: number + 10**6 for word, number in words.items()}


def _wide_regressor(model: Any) -> None:
    model.estimators_ = np.hstack([model.estimators_, model.estimators_])


def _other_width(model: Any) -> None:
    model.estimators_[0] = type(model.estimators_[0])().fit(np.hstack([zoo.X, zoo.X]), zoo.Y)


def _other_stage(model: Any) -> None:
    stage = type(model.estimators_[0, 0])()
    model.estimators_[0, 0] = stage.fit(np.hstack([zoo.X, zoo.X]), zoo.Y)


def _bad_sparse(model: Any) -> None:
    model.coef_.indices[0] = 10**6


def _bad_pointers(model: Any) -> None:
    model.coef_.indptr[-1] = 10**6


def _falling_pointers(model: Any) -> None:
    model.coef_.indptr[1:-1] = 10**6


def _overflowing_pointers(model: Any) -> None:
    # The difference of neighbours is positive again, in 32 bits.
    model.coef_.indptr[1] = 2**31 - 1
    model.coef_.indptr[2] = -(2**31)


def _pointers_of_nothing(model: Any) -> None:
    model.coef_.indptr[-1] = 0


def _thin(matrix: Any) -> Any:
    matrix = matrix.copy()
    matrix.data[1:] = 0
    matrix.eliminate_zeros()
    return matrix


def _precomputed_and_sparse(model: Any) -> None:
    model.kernel, model.shape_fit_ = "precomputed", (4, 4)
    model.support_ = np.zeros_like(model.support_)


def _one_share(model: Any) -> None:
    model._probA = model._probB = np.zeros(1)


def _scaled_distance(model: Any) -> None:
    model.metric, model.metric_params = "seuclidean", {"V": np.ones(1)}


def _categories(model: Any) -> None:
    mapper = model._bin_mapper
    position = int(np.flatnonzero(mapper.is_categorical_)[0])
    mapper.bin_thresholds_[position] = np.array([0.0, 99999.0])


def _lossy(model: Any) -> None:
    steps = model._preprocessor.transformers_
    steps[1] = (*steps[1][:2], np.zeros(5, dtype=bool))


def _no_stages(model: Any) -> None:
    model._predictors, model.n_trees_per_iteration_ = [], 10**9


def _shifted(mappings: list[Any]) -> list[Any]:
    return [None if mapping is None else mapping + 9 for mapping in mappings]


def _unordered(model: Any) -> None:
    model.categories_ = [each[::-1].copy() for each in model.categories_]


def _many_columns(model: Any) -> None:
    model.categories_ = [np.arange(10.0**6)] * 4
    model._n_features_outs = [10**6 - 1] * 4


def _member_features(model: Any) -> None:
    model.estimators_features_[0] = np.array([10**6, 0])


# name → (model, what is changed, reason)
_CHANGES: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "a child out of range": ("DecisionTreeClassifier", _tree(_node("left_child", 10**6)), _TREE),
    "a negative child": ("DecisionTreeClassifier", _tree(_node("left_child", -5)), _TREE),
    "a child above its parent": ("DecisionTreeClassifier", _tree(_node("left_child", 0)), _TREE),
    "a node with one child": ("DecisionTreeRegressor", _tree(_node("right_child", -1)), _TREE),
    "a node with one child, to the right": (
        "DecisionTreeRegressor",
        _tree(_node("left_child", -1)),
        _TREE,
    ),
    "a child of two parents": ("DecisionTreeClassifier", _tree(_shared_child), _TREE),
    "a feature out of range": ("DecisionTreeClassifier", _tree(_node("feature", 10**6)), _TREE),
    "a negative feature": ("DecisionTreeClassifier", _tree(_node("feature", -7)), _TREE),
    "a tree that claims to be shallow": (
        "DecisionTreeClassifier",
        _tree(_shallow),
        "invalid_file",
    ),
    "a forest's child out of range": (
        "RandomForestClassifier",
        _tree(_node("right_child", 2**40)),
        _TREE,
    ),
    "an isolation tree's circle": ("IsolationForest", _tree(_node("left_child", 0)), _TREE),
    "a boosting stage's feature": (
        "GradientBoostingClassifier",
        _tree(_node("feature", 99)),
        _TREE,
    ),
    "a tree of another width": (
        "DecisionTreeClassifier",
        _set("n_features_in_", lambda _: 2),
        _TREE,
    ),
    "a tree of other classes": (
        "DecisionTreeClassifier",
        _set("classes_", lambda _: np.arange(50)),
        _TREE,
    ),
    "a forest's member of another width": ("RandomForestClassifier", _other_width, _TREE),
    "a stage of another width": ("GradientBoostingRegressor", _other_stage, _TREE),
    "stages of too many columns": ("GradientBoostingRegressor", _wide_regressor, _TREE),
    "stages of too many classes": ("GradientBoostingClassifier", _wide_regressor, _TREE),
    "a first guess for one class": (
        "GradientBoostingClassifier",
        _set("init_", lambda _: DummyClassifier().fit(zoo.X, zoo.Y > 0)),
        _ARRAY,
    ),
    "a histogram tree's child": (
        "HistGradientBoostingClassifier",
        _histogram("left", 10**6),
        _TREE,
    ),
    "a histogram tree's circle": ("HistGradientBoostingClassifier", _histogram("right", 0), _TREE),
    "a histogram tree's feature": (
        "HistGradientBoostingClassifier",
        _histogram("feature_idx", 99),
        _TREE,
    ),
    "a histogram tree's negative feature": (
        "HistGradientBoostingRegressor",
        _histogram("feature_idx", -1),
        _TREE,
    ),
    "a histogram tree's categories": (
        "boosting of categories",
        _category_set,
        _TREE,
    ),
    "too few sets of categories": (
        "HistGradientBoostingClassifier",
        _set("_predictors.0.0.raw_left_cat_bitsets", lambda _: np.zeros((1, 3), np.uint32)),
        "invalid_file",
    ),
    "a category that is no bit": ("boosting of categories", _categories, _ARRAY),
    "a number that is asked for its category": (
        "HistGradientBoostingClassifier",
        _histogram("is_categorical", 1),
        _TREE,
    ),
    "a step before boosting that loses columns": ("boosting of categories", _lossy, _ARRAY),
    "a step before boosting that names columns twice": (
        "boosting of a frame",
        _set(
            "_preprocessor._transformer_to_input_indices",
            lambda _: {"encoder": [], "numerical": [0]},
        ),
        _ARRAY,
    ),
    "another step before boosting": (
        "boosting of categories",
        _set("_preprocessor", lambda _: zoo.fitted("SelectKBest")[0]),
        "invalid_file",
    ),
    "boosting that is being fitted": (
        "HistGradientBoostingClassifier",
        _set("_in_fit", lambda _: True),
        "invalid_file",
    ),
    "stages of more classes than there are": ("HistGradientBoostingRegressor", _no_stages, _TREE),
    "bins of another width": (
        "HistGradientBoostingClassifier",
        _set("_bin_mapper.is_categorical_", lambda _: np.zeros(1, np.uint8)),
        _ARRAY,
    ),
    "a member's feature out of range": (
        "bagging of features",
        _member_features,
        _ARRAY,
    ),
    "centres of another width": ("KMeans", _set("cluster_centers_", _narrow), _ARRAY),
    "batch centres of another width": (
        "MiniBatchKMeans",
        _set("cluster_centers_", _narrow),
        _ARRAY,
    ),
    "bisections of another width": (
        "BisectingKMeans",
        _set("_bisecting_tree.left.center", lambda centre: centre[:1].copy()),
        _ARRAY,
    ),
    "fewer norms than centres": ("Birch", _set("_subcluster_norms", _fewer), _ARRAY),
    "neighbours of another width": ("KNeighborsClassifier", _set("_fit_X", _narrow), _ARRAY),
    "fewer neighbours than in their index": ("KNeighborsRegressor", _set("_fit_X", _fewer), _ARRAY),
    "fewer labels than neighbours": ("KNeighborsClassifier", _set("_y", _fewer), _ARRAY),
    "other neighbours than counted": (
        "NearestNeighbors",
        _set("n_samples_fit_", lambda count: count * 1000),
        _ARRAY,
    ),
    "a vote out of range": ("neighbours, votes", _set("_y", lambda y: y + 10**6), _ARRAY),
    "a vote before the first": ("neighbours, votes", _set("_y", lambda y: y - 10**6), _ARRAY),
    "a vote within a radius": (
        "RadiusNeighborsClassifier",
        _set("_y", lambda y: y + 10**6),
        _ARRAY,
    ),
    "a vote for the second output": (
        "neighbours of several outputs",
        _set("_y", lambda y: np.add(y, [0, 2])),
        _ARRAY,
    ),
    "labels of several outputs for one": (
        "neighbours of several outputs",
        _set("outputs_2d_", lambda _: False),
        _ARRAY,
    ),
    "more neighbours than points": (
        "neighbours, votes",
        _set("n_neighbors", lambda _: 10**7),
        _ARRAY,
    ),
    "no neighbours": ("neighbours, votes", _set("n_neighbors", lambda _: 0), _ARRAY),
    "a matrix for the distance of votes": ("neighbours, votes", _scaled_distance, "invalid_file"),
    "a distance with a matrix": (
        "KNeighborsClassifier",
        _set("effective_metric_params_", lambda _: {"V": np.ones(1)}),
        "invalid_file",
    ),
    "a distance that needs a matrix": (
        "NearestNeighbors",
        _set("effective_metric_", lambda _: "seuclidean"),
        "invalid_file",
    ),
    "a density of another width": ("KernelDensity", _set("n_features_in_", lambda _: 2), _ARRAY),
    "fewer support vectors than counted": ("SVC", _set("support_vectors_", _fewer), _ARRAY),
    "support vectors of another width": ("SVC", _set("support_vectors_", _narrow), _ARRAY),
    "more support vectors than there are": (
        "SVC",
        _set("_n_support", lambda counts: counts * 1000),
        _ARRAY,
    ),
    "negative counts of support vectors": (
        "SVC",
        _set("_n_support", lambda counts: counts - 1000),
        "invalid_file",
    ),
    "fewer coefficients than vectors": ("SVC", _set("_dual_coef_", _narrow), _ARRAY),
    "fewer intercepts than classes": ("NuSVC", _set("_intercept_", lambda _: np.zeros(1)), _ARRAY),
    "wide shares": ("SVC", _set("_probA", lambda _: np.zeros(2)), _ARRAY),
    "a regression's vectors": ("SVR", _set("support_vectors_", _narrow), _ARRAY),
    "a single class's vectors": ("OneClassSVM", _set("_n_support", lambda n: n * 9), _ARRAY),
    "more classes than a regression has": (
        "SVR",
        _set("_n_support", lambda n: np.append(n, np.zeros(1000, np.int32))),
        _ARRAY,
    ),
    "fewer counts than classes": (
        "SVC",
        _set("_n_support", lambda n: np.array([n[0], n[1] + n[2]], np.int32)),
        _ARRAY,
    ),
    "shares of one pair": ("SVC", _one_share, _ARRAY),
    "shares that are not there": (
        "sparse svm",
        _set("_effective_probability", lambda _: True),
        _ARRAY,
    ),
    "fewer sparse coefficients than vectors": ("sparse svm", _set("_dual_coef_", _thin), _ARRAY),
    "sparse coefficients of fewer classes": (
        "sparse svm",
        _set("_dual_coef_", lambda dual: dual[:1]),
        _ARRAY,
    ),
    "dense coefficients of sparse vectors": (
        "sparse svm",
        _set("_dual_coef_", lambda dual: dual.toarray()),
        "invalid_file",
    ),
    "sparse vectors by columns": (
        "sparse svm",
        _set("support_vectors_", lambda vectors: vectors.tocsc()),
        _ARRAY,
    ),
    "sparse vectors of another width": (
        "sparse svm",
        _set("support_vectors_", lambda vectors: vectors[:, :2]),
        _ARRAY,
    ),
    "sparse and precomputed": ("sparse svm", _precomputed_and_sparse, "invalid_file"),
    "precomputed vectors out of range": (
        "precomputed",
        _set("support_", lambda support: support + np.int32(10**6)),
        _ARRAY,
    ),
    "sparse coefficients out of range": ("sparse coefficients", _bad_sparse, _ARRAY),
    "sparse coefficients' rows out of range": ("sparse coefficients", _bad_pointers, _ARRAY),
    "sparse coefficients' rows falling": ("sparse coefficients", _falling_pointers, _ARRAY),
    "sparse coefficients' rows overflowing": ("sparse coefficients", _overflowing_pointers, _ARRAY),
    "sparse coefficients' rows of nothing": ("sparse coefficients", _pointers_of_nothing, _ARRAY),
    "a spline with few coefficients": (
        "SplineTransformer",
        _set("bsplines_.0._c", lambda c: c[:2].copy()),
        _ARRAY,
    ),
    "a spline of falling knots": (
        "SplineTransformer",
        _set("bsplines_.0._t", lambda t: t[::-1].copy()),
        "invalid_file",
    ),
    "a spline of a high degree": (
        "SplineTransformer",
        _set("bsplines_.0.k", lambda _: 10**6),
        "invalid_file",
    ),
    "a word out of range": ("CountVectorizer", _set("vocabulary_", _renumbered), _ARRAY),
    "a key out of range": ("DictVectorizer", _set("vocabulary_", _renumbered), _ARRAY),
    "a word with a negative number": (
        "TfidfVectorizer",
        _set("vocabulary_", lambda words: dict.fromkeys(words, -1)),
        _ARRAY,
    ),
    "columns that categories do not have": (
        "OneHotEncoder",
        _set("_n_features_outs", lambda outs: [1] * len(outs)),
        _ARRAY,
    ),
    "factors of another number": ("NMF", _set("components_", _fewer), _ARRAY),
    "topics of another number": (
        "LatentDirichletAllocation",
        _set("components_", _narrow),
        _ARRAY,
    ),
    "too many hashed words": ("HashingVectorizer", _set("n_features", lambda _: 2**31), "limits"),
    "no hashed words": ("HashingVectorizer", _set("n_features", lambda _: 0), _ARRAY),
    "no hashed keys": ("FeatureHasher", _set("n_features", lambda _: 0), _ARRAY),
    "too many hashed keys": ("FeatureHasher", _set("n_features", lambda _: 2**31), "limits"),
    "a dropped category out of range": (
        "a category less",
        _set("_drop_idx_after_grouping", lambda _: np.array([9] * 4, dtype=object)),
        _ARRAY,
    ),
    "categories that are not in order": ("a category less", _unordered, _ARRAY),
    "a rare category beyond the others": (
        "rare categories",
        _set("_default_to_infrequent_mappings", _shifted),
        _ARRAY,
    ),
    "rare categories without their numbers": (
        "rare categories",
        _set("_default_to_infrequent_mappings", lambda all_: [None] * len(all_)),
        "invalid_file",
    ),
    "more columns than there is memory for": ("a category less", _many_columns, "limits"),
    "a set's label out of range": (
        "MultiLabelBinarizer",
        _set("_cached_dict", lambda _: {0: 10**9}),
        _ARRAY,
    ),
    "a group of features out of range": (
        "FeatureAgglomeration",
        _set("labels_", lambda labels: labels + 10**9),
        _ARRAY,
    ),
    "too many polynomials": ("PolynomialFeatures", _set("_max_degree", lambda _: 90), "limits"),
    "other polynomials than counted": (
        "PolynomialFeatures",
        _set("_n_out_full", lambda _: 10**9),
        _ARRAY,
    ),
    "more weights than components": (
        "MiniBatchNMF",
        _set("_n_components", lambda _: 10**6),
        _ARRAY,
    ),
    "more degrees than hashes": (
        "PolynomialCountSketch",
        _set("degree", lambda _: 10**6),
        _ARRAY,
    ),
    "other splines than counted": (
        "SplineTransformer",
        _set("n_features_out_", lambda _: 10**9),
        _ARRAY,
    ),
    "too many components": (
        "LocallyLinearEmbedding",
        _set("n_components", lambda _: 10**9),
        "limits",
    ),
    "other outputs than counted": (
        "DummyRegressor",
        _set("n_outputs_", lambda _: 10**6),
        _ARRAY,
    ),
    "other classes than counted": (
        "BaggingClassifier",
        _set("n_classes_", lambda _: 10**9),
        _ARRAY,
    ),
    "votes out of range": (
        "hard voting",
        _set("estimators_.0.classes_", lambda c: c * 10**9),
        _ARRAY,
    ),
    "n-grams without end": (
        "CountVectorizer",
        _set("ngram_range", lambda _: (1, 10**9)),
        "unsafe_parameter",
    ),
    "another kind of support vectors": ("SVR", _set("_impl", lambda _: "c_svc"), "invalid_file"),
    "kernels in another order": (
        "sparse svm",
        _set("_sparse_kernels", lambda _: ["", "", "", "", "rbf"]),
        "invalid_file",
    ),
    "too many features": ("Ridge", _set("n_features_in_", lambda _: 2**40), "limits"),
}


def tampered_models() -> dict[str, tuple[bytes, str]]:
    """Return name of the change → the file, and the reason it must be refused for."""
    compositions = zoo.compositions()
    files = {}
    for attack, (which, change, reason) in _CHANGES.items():
        found = compositions[which] if which in compositions else zoo.fitted(which)
        model: BaseEstimator = copy.deepcopy(found[0])
        change(model)
        files[attack] = dump(model), reason
    # Without its estimator it cannot be dumped: looking for anything that it lacks never ends.
    frozen = dump(zoo.fitted("FrozenEstimator")[0])
    files["nothing that is frozen"] = frozen.replace(b"estimator", b"estimat0r", 1), "invalid_file"
    return files
