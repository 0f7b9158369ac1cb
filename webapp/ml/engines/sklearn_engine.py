"""scikit-learn itself, without what it does again for every call."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import sklearn
from scipy.sparse import issparse
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.pipeline import Pipeline

from webapp.ml.inputs import Table
from webapp.ml.passport import EngineName

# Answers for a matrix: labels or numbers, and probabilities or None.
Shortcut = Callable[[Any], tuple[Any, Any]]
_FOREST_CLASSIFIERS: Final = (RandomForestClassifier, ExtraTreesClassifier)
_FOREST_REGRESSORS: Final = (RandomForestRegressor, ExtraTreesRegressor)


class SklearnEngine:
    """Calls the estimator, or what its ``predict`` comes down to where that is known.

    A forest spends more than nine tenths of a one-row call on validation and on a pool of
    threads; its trees alone give the same bits.
    """

    name: EngineName = "sklearn"

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self._shortcut = find_shortcut(estimator)

    def run(self, X: Any, *, finite: bool, probabilities: bool) -> tuple[Any, Any]:
        """Return what ``predict`` answers, and ``predict_proba`` if it is asked for, else None."""
        if isinstance(X, Table):
            X = X.assemble()
        with np.errstate(all="ignore"):
            if self._shortcut is not None and finite:
                return self._shortcut(X)
            with sklearn.config_context(assume_finite=finite, skip_parameter_validation=True):
                y = self._estimator.predict(X)
                return y, self._estimator.predict_proba(X) if probabilities else None


def find_shortcut(estimator: Any) -> Shortcut | None:
    """Find a direct way to the answers of an estimator with one output."""
    if type(estimator) in _FOREST_CLASSIFIERS and estimator.n_outputs_ == 1:
        return _forest_classifier(estimator)
    if type(estimator) in _FOREST_REGRESSORS and estimator.n_outputs_ == 1:
        return _forest_regressor(estimator)
    if type(estimator) is Pipeline:
        return _pipeline(estimator)
    return None


def _pipeline(pipeline: Pipeline) -> Shortcut | None:
    *before, (_, last) = pipeline.steps
    final = find_shortcut(last)
    if final is None:
        return None
    steps = [step for _, step in before if step is not None and step != "passthrough"]

    def run(X: Any) -> tuple[Any, Any]:
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            for step in steps:
                X = step.transform(X)
        return final(X.toarray() if issparse(X) else X)

    return run


def _forest_classifier(forest: Any) -> Shortcut:
    trees = [member.tree_ for member in forest.estimators_]
    classes, n_classes = forest.classes_, forest.n_classes_

    def run(X: Any) -> tuple[Any, Any]:
        X = np.ascontiguousarray(X, dtype=np.float32)
        shares = np.zeros((len(X), n_classes))
        for tree in trees:
            shares += tree.predict(X)[:, :n_classes]
        shares /= len(trees)
        return classes.take(np.argmax(shares, axis=1), axis=0), shares

    return run


def _forest_regressor(forest: Any) -> Shortcut:
    trees = [member.tree_ for member in forest.estimators_]

    def run(X: Any) -> tuple[Any, Any]:
        X = np.ascontiguousarray(X, dtype=np.float32)
        y = np.zeros(len(X))
        for tree in trees:
            y += tree.predict(X)[:, 0]
        y /= len(trees)
        return y, None

    return run
