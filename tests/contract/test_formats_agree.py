"""Predictions in every format and protocol are the estimator's own, whatever the estimator."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests import database, estimators
from tests.contract import wire
from tests.contract.wire import Client, Table
from tests.unit.ml import zoo
from tests.world import World, kept_logging

ENGINES: tuple[dict[str, str], ...] = ({},)  # what a query says about the engine

CLASSIFIERS = """
AdaBoostClassifier BaggingClassifier BernoulliNB CalibratedClassifierCV DecisionTreeClassifier
DummyClassifier ExtraTreesClassifier GaussianNB
GradientBoostingClassifier HistGradientBoostingClassifier KNeighborsClassifier
LinearDiscriminantAnalysis LinearSVC LogisticRegression MLPClassifier NearestCentroid NuSVC
Perceptron QuadraticDiscriminantAnalysis RandomForestClassifier RidgeClassifier SGDClassifier SVC
"""
REGRESSORS = """
BayesianRidge DecisionTreeRegressor ElasticNet GaussianProcessRegressor GradientBoostingRegressor
HistGradientBoostingRegressor HuberRegressor KNeighborsRegressor Lasso LinearRegression
PLSRegression PoissonRegressor RandomForestRegressor Ridge SVR TransformedTargetRegressor
"""
OTHERS = """
BisectingKMeans EllipticEnvelope GaussianMixture IsolationForest KMeans MeanShift MiniBatchKMeans
OneClassSVM ClassifierChain MultiOutputClassifier MultiOutputRegressor MultiTaskLasso RegressorChain
"""
COMPOSITIONS = (
    "pipeline",
    "columns of a frame",
    "remainder",
    "union",
    "grid search",
    "stacking",
    "voting",
    "text",
    "text, n-grams",
    "boosting of categories",
    "tree of several outputs",
    "forest with holes",
    "neighbours, names",
    "polynomials",
)


def words_and_numbers() -> tuple[Any, Any]:
    """Numbers and a column of text, by name."""
    frame = pd.DataFrame(
        {
            "note": [
                f'a {"long" if length > 5.8 else "short"}, "fine" one' for length in zoo.X[:, 0]
            ],
            "width": zoo.X[:, 1],
        }
    )
    columns = ColumnTransformer(
        [("note", TfidfVectorizer(), "note"), ("width", StandardScaler(), ["width"])]
    )
    return make_pipeline(columns, LogisticRegression()).fit(frame, zoo.Y), frame


def cancer() -> tuple[Any, Any]:
    """Thirty numbers by name."""
    return estimators.cancer_forest(), estimators.load_breast_cancer(as_frame=True).data


def wine() -> tuple[Any, Any]:
    """Numbers, one of them missing, and a category, by name."""
    return estimators.wine_columns(), estimators.wine_frame()


OWN = {fit.__name__: fit for fit in (words_and_numbers, cancer, wine)}
KINDS = (*CLASSIFIERS.split(), *REGRESSORS.split(), *OTHERS.split(), *COMPOSITIONS, *OWN)
# One of each sort, for where a kind costs more: see tests/process.
SOME = ("HistGradientBoostingClassifier", "MultiOutputRegressor", "text", "words_and_numbers")


@cache
def fitted(kind: str) -> tuple[Any, Any]:
    """Fit one kind, and choose the rows to ask about: no neighbours, holes among them."""
    if kind in OWN:
        estimator, X = OWN[kind]()
    else:
        estimator, X = zoo.compositions()[kind] if kind in COMPOSITIONS else zoo.fitted(kind)
    return estimator, X.iloc[::13] if hasattr(X, "iloc") else X[::13]


def expected(kind: str) -> Any:
    """Ask the estimator itself."""
    estimator, X = fitted(kind)
    return np.asarray(estimator.predict(X)).tolist()


def table(kind: str) -> Table:
    """Write the same rows in JSON values."""
    X = fitted(kind)[1]
    if isinstance(X, list):
        return Table([[text] for text in X], None, numeric=False)
    names = [str(name) for name in X.columns] if hasattr(X, "columns") else None
    values = (X.to_numpy(dtype=object) if names else X).tolist()
    rows = [[None if value != value else value for value in row] for row in values]
    numeric = not any(isinstance(value, str) for row in rows for value in row)
    return Table(rows, names, numeric)


def check(client: Client, kind: str, form: Any) -> None:
    """Demand equality to the last bit."""
    answer, own = form(client, table(kind)), expected(kind)
    if form is wire.csv_out:
        own = [list(map(str, row)) if isinstance(row, list) else str(row) for row in own]
    assert answer == own


def formats(kind: str) -> list[Any]:
    """All formats but objects by name for a model that knows no names."""
    own = table(kind)
    return [form for form in wire.FORMATS if form is not wire.json_objects or own.names]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A program whose owner uploads the kinds as they are asked for."""
    with kept_logging(), database.migrated(tmp_path_factory.mktemp("formats-db")) as url:
        world = World(tmp_path_factory.mktemp("formats"), url)
        yield world
        world.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_estimators_own_predictions(everything: World, kind: str) -> None:
    name = f"m{KINDS.index(kind)}"
    # Compressed: the test client leaves open the file that a large body becomes.
    uploaded = everything.upload(name, estimators.dump(fitted(kind)[0], compress=3))
    assert uploaded.status_code == 201, uploaded.text

    def post(path: str, content: bytes, params: Any, headers: Any) -> tuple[Any, bytes]:
        response = everything.call(
            "POST", f"/{path}", everything.owner, data=content, query_string=params, headers=headers
        )
        assert response.status_code == 200, response.text
        return response.headers, response.data

    for engine in ENGINES:
        for form in formats(kind):
            check(Client(post, name, engine), kind, form)


def test_there_are_enough_kinds() -> None:
    assert len(set(KINDS)) == len(KINDS) >= 40
    assert len(wire.FORMATS) == 13
