"""Fitted estimators on the real data sets that scikit-learn brings along, each fitted once."""

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import joblib
import numpy as np
import pandas as pd
import sklearn
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from webapp.ml.loading import load_estimator
from webapp.ml.loading.examine import examine
from webapp.ml.predictor import Predictor


def dump(estimator: Any, **options: Any) -> bytes:
    """Return the bytes that joblib.dump writes."""
    file = io.BytesIO()
    joblib.dump(estimator, file, **options)
    return file.getvalue()


@cache
def dumped(fit: Callable[[], Any]) -> bytes:
    """Return the file of one of the estimators below."""
    return dump(fit())


def saved_with(version: str, data: bytes) -> bytes:
    """Let a file claim another version of scikit-learn; what is in it stays as it is."""
    here = sklearn.__version__
    assert len(version) == len(here)
    assert here.encode() in data
    return data.replace(here.encode(), version.encode())


@cache
def predictor(fit: Callable[[], Any]) -> Predictor:
    """Return one of the estimators below as a worker serves it, judged without a child."""
    data = dumped(fit)
    return Predictor(load_estimator(data), examine(data, max_features=10_000))


def rows(X: Any, count: int = 5) -> list[list[Any]]:
    """Return the first rows of a data set as a client would send them."""
    return [list(row) for row in (X.to_numpy() if hasattr(X, "to_numpy") else X)[:count].tolist()]


@cache
def iris_pipeline() -> Any:
    """Standardise, then a logistic regression: four numbers to one of three classes."""
    X, y = load_iris(return_X_y=True)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)


@cache
def cancer_forest() -> Any:
    """A forest that knows its thirty column names."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return RandomForestClassifier(20, random_state=0, n_jobs=2).fit(X, y)


@cache
def digits_boosting() -> Any:
    """Gradient boosting over 64 pixels; it takes missing values."""
    X, y = load_digits(return_X_y=True)
    return HistGradientBoostingClassifier(max_iter=3, random_state=0).fit(X[:400], y[:400])


@cache
def diabetes_ridge() -> Any:
    """A regression without classes."""
    X, y = load_diabetes(return_X_y=True)
    return Ridge().fit(X, y)


@cache
def wine_clusters() -> Any:
    """A clustering: predict, but no classes and no probabilities."""
    return KMeans(3, random_state=0, n_init=1).fit(load_wine().data)


@cache
def iris_neighbours() -> Any:
    """Nearest neighbours with a tree index."""
    X, y = load_iris(return_X_y=True)
    return KNeighborsClassifier(n_jobs=2).fit(X, y)


@cache
def iris_vectors() -> Any:
    """A support vector machine, with species names for labels."""
    data = load_iris()
    return SVC().fit(data.data, data.target_names[data.target])


@cache
def fragile_neighbours() -> Any:
    """Answers near its points, and raises far from them: valid input that the model fails on."""
    X = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    return RadiusNeighborsClassifier(radius=2.0).fit(X, [0, 1, 1])


def wine_frame() -> pd.DataFrame:
    """Two numbers and a category of each wine; one alcohol value is missing."""
    wine = load_wine(as_frame=True).frame
    strength = np.where(wine["color_intensity"] > 5, "strong", "light")
    frame = wine[["alcohol", "malic_acid"]].assign(colour=strength)
    frame.loc[3, "alcohol"] = np.nan
    return frame


@cache
def wine_columns() -> Any:
    """Numbers and a category by column name; only alcohol may be missing."""
    columns = ColumnTransformer(
        [
            ("alcohol", make_pipeline(SimpleImputer(), StandardScaler()), ["alcohol"]),
            ("acid", StandardScaler(), ["malic_acid"]),
            ("colour", OneHotEncoder(), ["colour"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression()).fit(wine_frame(), load_wine().target)


def texts() -> tuple[list[str], list[str]]:
    """The descriptions that come with the data sets: sentences, and which set they describe."""
    sentences, names = [], []
    for load in (load_iris, load_wine, load_diabetes, load_breast_cancer):
        lines = [line.strip() for line in load().DESCR.splitlines() if len(line.split()) > 5]
        sentences += lines
        names += [load.__name__.removeprefix("load_")] * len(lines)
    return sentences, names


@cache
def description_text() -> Any:
    """Which data set a sentence describes."""
    sentences, names = texts()
    return make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(sentences, names)
