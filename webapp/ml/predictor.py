"""A fitted estimator behind checks: rows of JSON in, JSON values out."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
from sklearn.compose import ColumnTransformer

from webapp.errors import InvalidInputError, PredictionError
from webapp.ml.columns import describe_columns
from webapp.ml.graph import walk
from webapp.ml.inputs import InputReader, Layout, Rows
from webapp.ml.outputs import to_json
from webapp.ml.passport import Passport


@dataclass(frozen=True)
class Prediction:
    """What a model answered, in JSON values; one entry per row."""

    predictions: list[Any]
    probabilities: list[Any] | None
    classes: list[Any] | None
    rows: int
    duration_seconds: float


class Predictor:
    """Checks input against the passport of a model and predicts with scikit-learn.

    The estimator becomes the predictor's own: feature names that it would only check against a
    pandas frame are taken out of it, since we check them and send arrays, which cost less.
    """

    engine = "sklearn"

    def __init__(self, estimator: Any, passport: Passport) -> None:
        self.passport = passport
        self.memory_bytes = passport.memory_bytes
        self._estimator = estimator
        width = passport.n_features_in_
        self.columns = columns = describe_columns(estimator, width)
        names = passport.feature_names_in_
        layout = _choose_layout(estimator, names, all(c.is_numeric for c in columns))
        nullable = range(width) if passport.accepts_nan else passport.nan_features
        self._reader = InputReader(columns, names, frozenset(nullable), layout)
        if layout != "frame":
            _forget_names(estimator)

    def predict(self, input_data: Rows, *, probabilities: bool = False) -> Prediction:
        """Predict one label or number per row.

        Raises
        ------
        InvalidInputError : the rows are not what the model takes, or it has no probabilities
        PredictionError : the estimator fails on rows that it should take
        """
        started = time.perf_counter()
        if probabilities and not self.passport.has_predict_proba:
            raise InvalidInputError(
                'this model has no probabilities: leave out "probabilities"',
                {"expected": "a model with predict_proba"},
            )
        X, finite = self._reader.read(input_data)
        predictions, shares = self._run(X, finite, probabilities)
        return Prediction(
            predictions=predictions,
            probabilities=shares,
            classes=self.passport.classes_ if probabilities else None,
            rows=len(input_data),
            duration_seconds=time.perf_counter() - started,
        )

    def _run(self, X: Any, finite: bool, probabilities: bool) -> tuple[list[Any], list[Any] | None]:
        try:
            with (
                sklearn.config_context(assume_finite=finite, skip_parameter_validation=True),
                np.errstate(all="ignore"),
            ):
                predictions = to_json(self._estimator.predict(X))
                shares = self._estimator.predict_proba(X) if probabilities else None
        # Any estimator, any exception: all of them mean the same to the caller.
        except Exception as error:
            raise PredictionError("the model failed on this input") from error
        return predictions, None if shares is None else _per_row(shares)


def _per_row(shares: Any) -> list[Any]:
    """Several outputs come as one matrix each; a row of the answer has one list per output."""
    if isinstance(shares, list):
        matrices = [to_json(matrix) for matrix in shares]
        return [list(row) for row in zip(*matrices, strict=True)]
    rows: list[Any] = to_json(shares)
    return rows


def _choose_layout(estimator: Any, names: list[str] | None, numeric: bool) -> Layout:
    if not hasattr(estimator, "n_features_in_"):
        return "texts"
    if names is not None and (not numeric or _needs_frame(estimator)):
        return "frame"
    return "numbers" if numeric else "objects"


def _needs_frame(estimator: Any) -> bool:
    """Whether a part picks its columns by name, or was told to hand on frames."""
    return any(
        isinstance(part, ColumnTransformer) or hasattr(part, "_sklearn_output_config")
        for part in walk(estimator)
    )


def _forget_names(estimator: Any) -> None:
    for part in walk(estimator):
        vars(part).pop("feature_names_in_", None)
