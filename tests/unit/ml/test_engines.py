"""Both engines give scikit-learn's answers, or the verifier keeps a model from the faster one."""

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.estimators import dump
from tests.unit.ml import zoo
from webapp.errors import ModelRejectedError
from webapp.ml.engines import boosting
from webapp.ml.engines.compiling import compare, compile_model
from webapp.ml.engines.onnx_engine import INPUT, OnnxEngine
from webapp.ml.engines.probing import Prober
from webapp.ml.engines.sklearn_engine import SklearnEngine, find_shortcut
from webapp.ml.loading import load_estimator
from webapp.ml.loading.examine import examine
from webapp.ml.passport import Compilation, Passport
from webapp.ml.predictor import Predictor

CANCER, MALIGN = load_breast_cancer(return_X_y=True)
DIABETES, PROGRESS = load_diabetes(return_X_y=True)
WINE = load_wine()
KINDS = [*zoo.names(), *zoo.compositions()]


def make(name: str) -> tuple[Any, Any]:
    """Get one of the fitted estimators, and its X."""
    compositions = zoo.compositions()
    return compositions[name] if name in compositions else zoo.fitted(name)


def serve(estimator: Any) -> tuple[Predictor, Compilation]:
    """Take an estimator the whole way to the engine that it gets."""
    data = dump(estimator)
    passport = examine(data, 1000, ())
    compilation, graph = compile_model(load_estimator(data), passport)
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
    assert compilation.verified_rows >= 1000
    _, X = make(name)
    X = np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float64)
    probabilities = predictor.passport.has_predict_proba
    answer = predictor.predict(X, probabilities=probabilities)
    original = predictor.predict(X, probabilities=probabilities, engine="sklearn")
    assert answer.engine == "onnx" or np.isnan(X).any()
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
    assert len(kinds) >= 60


@pytest.mark.parametrize(
    ("estimator", "X", "y"),
    [
        (RandomForestClassifier(25, random_state=0), CANCER, MALIGN),
        (RandomForestClassifier(10, random_state=0, max_depth=3), WINE.data, WINE.target),
        (ExtraTreesClassifier(20, random_state=0), WINE.data, WINE.target_names[WINE.target]),
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


def graph_of(estimator: Any, tensor: Any) -> bytes:
    """Convert as skl2onnx does it, without a look at the result."""
    width = estimator.n_features_in_
    options = {"zipmap": False} if hasattr(estimator, "classes_") else None
    model = to_onnx(estimator, initial_types=[(INPUT, tensor([None, width]))], options=options)
    graph: bytes = model.SerializeToString()
    return graph


@pytest.mark.parametrize(
    ("estimator", "tensor"),
    [
        (RandomForestClassifier(30, random_state=0).fit(CANCER, MALIGN), DoubleTensorType),
        (HistGradientBoostingClassifier(max_iter=30).fit(CANCER, MALIGN), FloatTensorType),
        (HistGradientBoostingRegressor(max_iter=30).fit(DIABETES, PROGRESS), FloatTensorType),
    ],
    ids=["forest, double", "boosting, float", "boosting of numbers, float"],
)
def test_a_wrong_conversion_is_right_on_the_data_and_caught_at_the_thresholds(
    estimator: Any, tensor: Any
) -> None:
    boosting.register()
    data = dump(estimator)
    passport = examine(data, 1000, ())
    original = SklearnEngine(estimator)
    candidate = OnnxEngine(graph_of(estimator, tensor), passport, original)
    near = Prober(estimator, Predictor(load_estimator(data), passport).columns).near()
    assert "differ" in (compare(candidate, original, near, passport).trouble or "")


def test_gradient_boosting_is_compiled_in_float64_with_its_missing_values() -> None:
    X = CANCER.copy()
    X[::7, 3] = np.nan
    predictor, compilation = serve(HistGradientBoostingClassifier(max_iter=30).fit(X, MALIGN))
    assert (compilation.engine, compilation.precision) == ("onnx", "float64")
    assert compilation.takes_nan
    assert predictor.predict(X[:1]).engine == "onnx"


def test_scalers_before_trees_are_compiled_in_float64() -> None:
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(30, random_state=0))
    _, compilation = serve(forest.fit(CANCER, MALIGN))
    assert compilation.precision == "float64 before float32"


def test_what_a_compiled_model_is_not_proven_for_goes_to_scikit_learn() -> None:
    forest = RandomForestClassifier(100, random_state=0).fit(CANCER, MALIGN)
    predictor, compilation = serve(forest)
    assert (compilation.engine, compilation.takes_nan) == ("onnx", False)
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
    columns = Predictor(model, examine(dump(model), 100, ())).columns
    between = Prober(model, columns).between(model.predict)
    half = len(between) // 2
    assert half > 10
    assert (model.predict(between[:half]) != model.predict(between[half:])).all()
    np.testing.assert_allclose(between[:half], between[half:], atol=1e-4)
