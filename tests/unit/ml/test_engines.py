"""Both engines give scikit-learn's answers, or the verifier keeps a model from the faster one."""

import json
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tests.estimators import dump, wine_frame
from tests.unit.ml import zoo
from webapp.errors import ModelRejectedError
from webapp.ml.engines.compiling import compare, compile_model
from webapp.ml.engines.linear import register_linear
from webapp.ml.engines.onnx_engine import INPUT, OnnxEngine
from webapp.ml.engines.probing import Prober
from webapp.ml.engines.sklearn_engine import SklearnEngine, find_shortcut
from webapp.ml.engines.trees import register_trees
from webapp.ml.loading import load_estimator
from webapp.ml.loading.examine import examine
from webapp.ml.passport import Compilation, Passport
from webapp.ml.predictor import Predictor

CANCER, MALIGN = load_breast_cancer(return_X_y=True)
DIABETES, PROGRESS = load_diabetes(return_X_y=True)
WINE = load_wine()
NAMES = WINE.target_names[WINE.target]
KINDS = [*zoo.names(), *zoo.compositions()]


def make(name: str) -> tuple[Any, Any]:
    """Get one of the fitted estimators, and its X."""
    compositions = zoo.compositions()
    return compositions[name] if name in compositions else zoo.fitted(name)


def serve(estimator: Any, **facts: Any) -> tuple[Predictor, Compilation]:
    """Take an estimator the whole way to the engine that it gets; facts overwrite what came out."""
    data = dump(estimator)
    passport = examine(data, 1000)
    compilation, graph = compile_model(load_estimator(data), passport)
    compilation = replace(compilation, **facts)
    passport = Passport.from_dict(
        json.loads(json.dumps({**passport.to_dict(), "compilation": vars(compilation)}))
    )
    loaded = load_estimator(data)
    compiled = OnnxEngine(graph, passport, SklearnEngine(loaded)) if graph else None
    return Predictor(loaded, passport, compiled), compilation


@cache
def served(name: str) -> tuple[Predictor, Compilation] | None:
    """Take one of the estimators the whole way; None if it does not predict."""
    try:
        return serve(make(name)[0])
    except ModelRejectedError:
        return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_estimator_is_equal_on_the_engine_that_it_got(name: str) -> None:
    found = served(name)
    if found is None:
        return
    predictor, compilation = found
    assert (compilation.engine == "onnx") == (compilation.reason is None)
    if compilation.engine == "sklearn":
        return  # then it is scikit-learn that answers
    assert compilation.verified_rows >= 5000
    _, X = make(name)
    has_holes = not hasattr(X, "toarray") and bool(np.any(pd.isna(X)))
    if isinstance(X, pd.DataFrame):
        X = X.astype(object).where(X.notna(), None).to_numpy().tolist()
    else:
        X = np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float64)
    probabilities = predictor.passport.has_predict_proba
    answer = predictor.predict(X, probabilities=probabilities)
    original = predictor.predict(X, probabilities=probabilities, engine="sklearn")
    assert answer.engine == "onnx" or has_holes
    if predictor.passport.classes_ is not None:
        assert answer.predictions == original.predictions
    else:
        np.testing.assert_allclose(answer.predictions, original.predictions, rtol=1e-6, atol=1e-6)
    if probabilities:
        np.testing.assert_allclose(
            answer.probabilities, original.probabilities, rtol=1e-6, atol=1e-6
        )


@pytest.mark.filterwarnings("ignore")
def test_most_kinds_of_estimator_are_served_by_onnx() -> None:
    kinds = [name for name in KINDS if (found := served(name)) and found[1].engine == "onnx"]
    assert len(kinds) >= 80


@pytest.mark.parametrize(
    ("estimator", "X", "y"),
    [
        (RandomForestClassifier(25, random_state=0), CANCER, MALIGN),
        (RandomForestClassifier(10, random_state=0, max_depth=3), WINE.data, WINE.target),
        (ExtraTreesClassifier(20, random_state=0), WINE.data, NAMES),
        (RandomForestRegressor(15, random_state=0), DIABETES, PROGRESS),
        (ExtraTreesRegressor(15, random_state=0), DIABETES, PROGRESS),
        (make_pipeline(StandardScaler(), RandomForestClassifier(15)), CANCER, MALIGN),
    ],
    ids=lambda value: type(value).__name__,
)
def test_trees_called_directly_give_the_bits_that_the_forest_gives(
    estimator: Any, X: Any, y: Any
) -> None:
    estimator.fit(X, y)
    assert find_shortcut(estimator) is not None
    classifies = hasattr(estimator, "predict_proba")
    for rows in (X, X[:1], X[::-1][:7]):
        answer, shares = SklearnEngine(estimator).run(rows, finite=True, probabilities=classifies)
        expected = estimator.predict(rows)
        assert answer.dtype == expected.dtype
        np.testing.assert_array_equal(answer, expected)
        if classifies:
            np.testing.assert_array_equal(shares, estimator.predict_proba(rows))


def fresh(X: Any, count: int = 20_000) -> Any:
    """Draw rows that the verifier does not: in the range of the data, about it, and between it."""
    random = np.random.default_rng(20)
    shape = (count // 3, X.shape[1])
    pairs = X[random.integers(len(X), size=(2, shape[0]))]
    way = random.random((shape[0], 1))
    return np.concatenate(
        [
            random.uniform(X.min(0), X.max(0), shape),
            random.normal(X.mean(0), X.std(0), shape),
            pairs[0] * way + pairs[1] * (1 - way),
        ]
    )


def both_engines(estimator: Any) -> tuple[OnnxEngine, SklearnEngine, Passport]:
    """Get the compiled engine of an estimator, and scikit-learn."""
    data = dump(estimator)
    passport = examine(data, 1000)
    compilation, graph = compile_model(load_estimator(data), passport)
    assert compilation.engine == "onnx", compilation.reason
    original = SklearnEngine(load_estimator(data))
    return OnnxEngine(graph, passport, original), original, passport


LINEAR = [
    (LinearDiscriminantAnalysis(), WINE.data, WINE.target),
    (LogisticRegression(max_iter=300), CANCER, MALIGN),
    (LogisticRegression(max_iter=300), WINE.data, NAMES),
    (make_pipeline(StandardScaler(), LogisticRegression()), CANCER, MALIGN),
    (RidgeClassifier(), WINE.data, WINE.target),
    (LinearSVC(max_iter=100), CANCER, MALIGN),
    (SGDClassifier(loss="log_loss", random_state=0), CANCER, MALIGN),
    (SGDClassifier(loss="log_loss", random_state=0), *load_digits(return_X_y=True)),
    (Ridge(), CANCER[:, 1:], CANCER[:, 0] * 1e4),
]
TREES = [
    (DecisionTreeClassifier(min_samples_leaf=3), CANCER, MALIGN),
    (RandomForestClassifier(30, random_state=0, max_depth=5), CANCER, MALIGN),
    (
        ExtraTreesClassifier(30, random_state=0, max_depth=5),
        WINE.data,
        WINE.target_names[WINE.target],
    ),
    (GradientBoostingClassifier(n_estimators=20), CANCER, MALIGN),
    (GradientBoostingClassifier(n_estimators=20, loss="exponential"), CANCER, MALIGN + 3),
    (GradientBoostingClassifier(n_estimators=10), WINE.data, WINE.target),
    (HistGradientBoostingClassifier(max_iter=20), WINE.data, WINE.target),
    (DecisionTreeRegressor(), DIABETES, PROGRESS),
    (RandomForestRegressor(30, random_state=0), DIABETES, PROGRESS),
    (RandomForestRegressor(10, random_state=0), DIABETES, np.c_[PROGRESS, 1 / PROGRESS]),
    (GradientBoostingRegressor(), DIABETES, PROGRESS),
    (HistGradientBoostingRegressor(loss="poisson", max_iter=30), DIABETES, PROGRESS),
    (make_pipeline(StandardScaler(), RandomForestClassifier(30, random_state=0)), CANCER, MALIGN),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "X", "y"), LINEAR + TREES, ids=lambda value: type(value).__name__
)
def test_what_is_accepted_gives_the_numbers_of_scikit_learn_on_rows_not_compared(
    estimator: Any, X: Any, y: Any
) -> None:
    candidate, original, passport = both_engines(estimator.fit(X, y))
    rows = np.concatenate([X, fresh(X)])
    asked = {"finite": True, "probabilities": passport.has_predict_proba}
    for found, expected in zip(
        candidate.run(rows, **asked), original.run(rows, **asked), strict=True
    ):
        if expected is not None and expected.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
        else:
            np.testing.assert_array_equal(found, expected)


def graph_of(estimator: Any, tensor: Any) -> bytes:
    """Convert in one precision, without a look at the result."""
    register_trees()
    register_linear()
    width = estimator.n_features_in_
    options = {"zipmap": False} if hasattr(estimator, "classes_") else None
    model = to_onnx(estimator, initial_types=[(INPUT, tensor([None, width]))], options=options)
    graph: bytes = model.SerializeToString()
    return graph


def rounded(forest: Any) -> Any:
    """Copy a forest with its thresholds in float32."""
    copy = deepcopy(forest)
    for member in copy.estimators_:
        member.tree_.threshold[:] = member.tree_.threshold.astype(np.float32)
    return copy


FOREST = RandomForestClassifier(30, random_state=0).fit(CANCER, MALIGN)
BOOSTING = HistGradientBoostingClassifier(max_iter=30).fit(CANCER, MALIGN)
BOOSTED_NUMBERS = HistGradientBoostingRegressor(max_iter=30).fit(DIABETES, PROGRESS)


@pytest.mark.parametrize(
    ("estimator", "converted", "tensor"),
    [
        (FOREST, rounded(FOREST), DoubleTensorType),
        (BOOSTING, BOOSTING, FloatTensorType),
        (BOOSTED_NUMBERS, BOOSTED_NUMBERS, FloatTensorType),
    ],
    ids=["forest", "boosting", "boosting of numbers"],
)
def test_a_wrong_conversion_is_right_on_the_data_and_caught_at_the_thresholds(
    estimator: Any, converted: Any, tensor: Any
) -> None:
    data = dump(estimator)
    passport = examine(data, 1000)
    original = SklearnEngine(estimator)
    candidate = OnnxEngine(graph_of(converted, tensor), passport, original)
    near = Prober(estimator, Predictor(load_estimator(data), passport).columns).near()
    assert "differ" in (compare(candidate, original, near, passport).trouble or "")


class Beside:
    """An engine whose probabilities are beside those of scikit-learn."""

    name = "onnx"

    def __init__(self, original: SklearnEngine, difference: float) -> None:
        self._original = original
        self._difference = difference

    def run(self, X: Any, **asked: Any) -> tuple[Any, Any]:
        y, shares = self._original.run(X, **asked)
        return y, shares + self._difference


def test_the_rows_compared_leave_room_for_those_that_are_not() -> None:
    model = LinearDiscriminantAnalysis().fit(CANCER, MALIGN)
    passport, original = examine(dump(model), 1000), SklearnEngine(model)
    assert compare(Beside(original, 2e-7), original, CANCER, passport).trouble is None
    assert compare(Beside(original, 5e-7), original, CANCER, passport).trouble is not None


def test_a_conversion_to_float32_is_found_wrong_where_labels_change() -> None:
    outliers = OneClassSVM().fit(csr_matrix(CANCER))
    _, compilation = serve(outliers)
    assert compilation.engine == "sklearn"
    assert "labels differ" in (compilation.reason or "")


def test_gradient_boosting_is_compiled_in_float64_with_its_missing_values() -> None:
    X = CANCER.copy()
    X[::7, 3] = np.nan
    predictor, compilation = serve(HistGradientBoostingClassifier(max_iter=30).fit(X, MALIGN))
    assert (compilation.engine, compilation.precision) == ("onnx", "float64")
    assert compilation.takes_nan
    assert predictor.predict(X[:1]).engine == "onnx"


def test_forests_are_compiled_with_their_missing_values() -> None:
    X = np.where(CANCER > 20, np.nan, CANCER)
    predictor, compilation = serve(RandomForestClassifier(30, random_state=0).fit(X, MALIGN))
    assert compilation.takes_nan
    answer = predictor.predict(X, probabilities=True)
    original = predictor.predict(X, probabilities=True, engine="sklearn")
    assert (answer.engine, original.engine) == ("onnx", "sklearn")
    assert answer.predictions == original.predictions
    np.testing.assert_allclose(answer.probabilities, original.probabilities, rtol=1e-12)


def wine_table() -> pd.DataFrame:
    """Numbers, categories that are texts, and one that is a number; one value is missing."""
    frame = wine_frame()
    return frame.assign(
        hue=pd.cut(WINE.data[:, 10], 4, labels=["a", "b", "c", "d"]).astype(str),
        size=(WINE.data[:, 4] // 10).clip(8, 11),
        nothing=np.where(WINE.target, "x", "y"),
    )


TABLE = wine_table()
NUMBERS, TEXTS = ["alcohol", "malic_acid"], ["colour", "hue"]
IGNORING = {"handle_unknown": "ignore"}
COLUMNS = {
    "scaled and one-hot": [
        (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
        (OneHotEncoder(**IGNORING), [*TEXTS, "size"]),
    ],
    "one-hot first": [
        (OneHotEncoder(drop="if_binary", sparse_output=False), TEXTS),
        (SimpleImputer(strategy="median"), NUMBERS),
    ],
    "texts filled in": [
        (SimpleImputer(), NUMBERS),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(**IGNORING)), TEXTS),
    ],
    "ordinal": [
        (SimpleImputer(), NUMBERS),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), TEXTS),
    ],
    "numbers by name": [(make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS)],
}


def cells(count: int) -> list[list[Any]]:
    """Draw rows of the table as clients send them, with values that no row of it has."""
    random = np.random.default_rng(5)
    numbers = fresh(TABLE[NUMBERS].fillna(13.0).to_numpy(), count).round(3).tolist()
    values = (["light", "strong"], ["a", "b", "c", "d"], [8.0, 9.0, 10.0, 11.0])
    categories = zip(*(random.choice(each, len(numbers)).tolist() for each in values), strict=True)
    return [[*some, *others, "x"] for some, others in zip(numbers, categories, strict=True)]


@pytest.mark.parametrize(
    "last",
    [
        LogisticRegression(max_iter=1000),
        RandomForestClassifier(20, random_state=0),
        GradientBoostingClassifier(n_estimators=5),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("columns", COLUMNS)
def test_numbers_and_categories_are_served_by_onnx(columns: str, last: Any) -> None:
    transformer = make_column_transformer(*COLUMNS[columns])
    model = make_pipeline(transformer, clone(last)).fit(TABLE, WINE.target)
    predictor, compilation = serve(model)
    assert compilation.takes_nan
    rows = cells(3000)
    rows[0][0] = None
    if columns != "one-hot first":  # which knows no others
        rows[1][3] = rows[2][2] = "of no row"
        rows[3][4], rows[4][4] = 8.5, 70.0
    answer = predictor.predict(rows, probabilities=True)
    original = predictor.predict(rows, probabilities=True, engine="sklearn")
    assert (answer.engine, original.engine) == ("onnx", "sklearn")
    assert answer.predictions == original.predictions
    np.testing.assert_allclose(answer.probabilities, original.probabilities, rtol=1e-11, atol=1e-11)
    own = model.predict_proba(pd.DataFrame(rows, columns=TABLE.columns).astype({"alcohol": float}))
    np.testing.assert_array_equal(original.probabilities, own)


def test_columns_without_names_are_served_by_onnx() -> None:
    X = TABLE.fillna({"alcohol": 13.0}).to_numpy(dtype=object)
    transformer = make_column_transformer(
        (StandardScaler(), [0, 1]), (OneHotEncoder(**IGNORING), slice(2, 5)), remainder="drop"
    )
    forest = RandomForestClassifier(21, random_state=0)
    model = make_pipeline(transformer, forest).fit(X, WINE.target == 1)
    predictor, compilation = serve(model)
    assert compilation.engine == "onnx"
    rows = [*X.tolist(), *cells(300), [13.0, 2.0, "of no row", "a", 8.5, "x"]]
    answer = predictor.predict(rows)
    assert answer.engine == "onnx"
    assert answer.predictions == model.predict(np.array(rows, dtype=object)).tolist()


def test_a_value_that_is_missing_in_a_matrix_is_missing_in_a_table() -> None:
    transformer = make_column_transformer(*COLUMNS["numbers by name"])
    model = make_pipeline(transformer, LogisticRegression()).fit(TABLE[NUMBERS], WINE.target)
    predictor, _ = serve(model, takes_nan=False)
    assert predictor.predict(np.array([[13.0, 2.0]])).engine == "onnx"
    assert predictor.predict(np.array([[np.nan, 2.0]])).engine == "sklearn"


@pytest.mark.parametrize("labels", [MALIGN == 1, MALIGN * 1.0 - 3, MALIGN.astype(str)])
@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(21, random_state=0),
        LinearSVC(max_iter=100),
        GaussianNB(),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore")
def test_labels_keep_their_type(estimator: Any, labels: Any) -> None:
    predictor, _ = serve(clone(estimator).fit(CANCER, labels))
    answer = predictor.predict(CANCER)
    original = predictor.predict(CANCER, engine="sklearn").predictions
    assert answer.engine == "onnx"
    assert [(label, type(label)) for label in answer.predictions] == [
        (label, type(label)) for label in original
    ]


def test_a_missing_category_goes_to_scikit_learn() -> None:
    transformer = make_column_transformer(*COLUMNS["scaled and one-hot"])
    model = make_pipeline(transformer, LogisticRegression(max_iter=1000)).fit(TABLE, WINE.target)
    predictor, _ = serve(model)
    row = cells(3)[0]
    assert predictor.predict([row]).engine == "onnx"
    assert predictor.predict([[*row[:3], None, *row[4:]]]).engine == "sklearn"


def test_a_column_that_is_dropped_may_hold_anything_of_a_cell() -> None:
    transformer = make_column_transformer(*COLUMNS["scaled and one-hot"])
    model = make_pipeline(transformer, LogisticRegression(max_iter=1000)).fit(TABLE, WINE.target)
    predictor, _ = serve(model)
    row = cells(3)[0]
    answers = [predictor.predict([[*row[:-1], last]]) for last in ("x", 7, True, None)]
    assert [answer.engine for answer in answers] == ["onnx"] * 4
    assert len({tuple(answer.predictions) for answer in answers}) == 1


def test_categories_that_are_neither_numbers_nor_texts_stay_on_scikit_learn() -> None:
    frame = pd.DataFrame({"flag": [True, False, True, False]})
    _, compilation = serve(
        make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, [1, 0, 1, 0])
    )
    assert compilation.engine == "sklearn"
    assert compilation.reason == "only models of numbers and of categories are compiled"


def test_thresholds_behind_the_columns_of_a_table_are_asked_for() -> None:
    transformer = make_column_transformer(*reversed(COLUMNS["scaled and one-hot"]))
    tree = DecisionTreeClassifier(max_depth=1)
    model = make_pipeline(transformer, tree).fit(TABLE[[*TABLE]], WINE.target == 1)
    scaler = transformer.named_transformers_["pipeline"][-1]
    split = int(tree.tree_.feature[0]) - (len(transformer.get_feature_names_out()) - 2)
    threshold = tree.tree_.threshold[0] * scaler.scale_[split] + scaler.mean_[split]
    columns = Predictor(model, examine(dump(model), 100)).columns
    near = Prober(model, columns).near()[:, split]
    assert (np.abs(near - threshold) < 1e-6).any()


def test_what_a_compiled_model_is_not_proven_for_goes_to_scikit_learn() -> None:
    forest = RandomForestClassifier(100, random_state=0).fit(CANCER, MALIGN)
    predictor, compilation = serve(forest, takes_nan=False)
    assert compilation.engine == "onnx"
    missing = [[None, *CANCER[0, 1:].tolist()]]
    enormous = [[1e300, *CANCER[0, 1:].tolist()]]
    assert predictor.predict(CANCER[:1].tolist()).engine == "onnx"
    assert predictor.predict(missing).engine == "sklearn"
    assert predictor.predict(enormous).engine == "sklearn"


def test_a_label_that_rounding_decides_is_that_of_scikit_learn() -> None:
    X, y = load_iris(return_X_y=True)
    even = RandomForestClassifier(10, random_state=1).fit(X[50:], y[50:])
    predictor, _ = serve(even)
    rows = np.random.default_rng(1).uniform(X.min(0), X.max(0), (3000, 4))
    shares = even.predict_proba(rows)
    assert (np.abs(shares[:, 0] - shares[:, 1]) < 1e-9).any()
    passport = predictor.passport
    original = SklearnEngine(even)
    candidate = OnnxEngine(graph_of(even, FloatTensorType), passport, original)
    answer, _ = candidate.run(rows, finite=True, probabilities=False)
    np.testing.assert_array_equal(answer, even.predict(rows))


def test_a_linear_model_is_asked_on_both_sides_of_its_boundary() -> None:
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    columns = Predictor(model, examine(dump(model), 100)).columns
    between = Prober(model, columns).between(model.predict)
    pairs = len(between) // 22  # after twenty rows of each way come its two ends
    assert pairs > 10
    start, end = between[-2 * pairs : -pairs], between[-pairs:]
    assert (model.predict(start) != model.predict(end)).all()
    np.testing.assert_allclose(start, end, atol=1e-4)


def test_a_model_that_is_nearly_always_sure_is_asked_where_it_is_not() -> None:
    model = LinearDiscriminantAnalysis().fit(WINE.data, WINE.target)
    columns = Predictor(model, examine(dump(model), 100)).columns
    prober = Prober(model, columns)

    def undecided(rows: Any) -> Any:
        return (model.predict_proba(rows).max(axis=1) < 0.99).mean()

    assert undecided(prober.plain()) < 0.15
    assert undecided(prober.between(model.predict)) > 0.5
