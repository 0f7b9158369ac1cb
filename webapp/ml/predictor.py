"""A model behind checks: rows of JSON in, JSON values out."""

import logging
import time
from dataclasses import dataclass
from typing import Any

from sklearn.compose import ColumnTransformer

from webapp.errors import InvalidInputError, PredictionError
from webapp.ml.columns import describe_columns
from webapp.ml.engines.engine import Engine
from webapp.ml.engines.sklearn_engine import SklearnEngine
from webapp.ml.graph import walk
from webapp.ml.inputs import InputReader, Layout, Rows
from webapp.ml.outputs import to_json
from webapp.ml.passport import EngineName, Passport

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What a model answered, in JSON values; one entry per row."""

    predictions: list[Any]
    probabilities: list[Any] | None
    classes: list[Any] | None
    rows: int
    duration_seconds: float
    engine: EngineName


class Predictor:
    """Checks input against the passport of a model and predicts with one of its engines.

    The estimator becomes the predictor's own: feature names that it would only check against a
    pandas frame are taken out of it, since we check them and send arrays, which cost less.
    A compiled engine serves what it is proven for, and scikit-learn the rest.
    """

    def __init__(self, estimator: Any, passport: Passport, compiled: Engine | None = None) -> None:
        self.passport = passport
        self.memory_bytes = passport.memory_bytes
        self.estimator = estimator
        width = passport.n_features_in_
        self.columns = columns = describe_columns(estimator, width)
        names = passport.feature_names_in_
        self.layout = _choose_layout(estimator, names, all(c.is_numeric for c in columns))
        self.nullable = frozenset(range(width) if passport.accepts_nan else passport.nan_features)
        self._reader = InputReader(columns, names, self.nullable, self.layout)
        if self.layout != "frame":
            _forget_names(estimator)
        self._original: Engine = SklearnEngine(estimator)
        self._compiled = compiled
        compilation = passport.compilation
        if compiled is not None and compilation is not None:
            self.memory_bytes += compilation.onnx_bytes or 0
        self._compiled_takes_nan = compilation is not None and compilation.takes_nan

    @property
    def engine(self) -> EngineName:
        """The engine that serves ordinary rows."""
        return (self._compiled or self._original).name

    def predict(
        self, input_data: Rows, *, probabilities: bool = False, engine: EngineName | None = None
    ) -> Prediction:
        """Predict one label or number per row, with scikit-learn itself if that is asked for.

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
        X, finite = self.read(input_data)
        used, y, shares = self._run(X, finite, probabilities, engine)
        return Prediction(
            predictions=to_json(y),
            probabilities=None if shares is None else _per_row(shares),
            classes=self.passport.classes_ if probabilities else None,
            rows=len(input_data),
            duration_seconds=time.perf_counter() - started,
            engine=used,
        )

    def read(self, input_data: Rows) -> tuple[Any, bool]:
        """Make X of rows, and tell whether all of its numbers are finite."""
        return self._reader.read(input_data)

    def _run(
        self, X: Any, finite: bool, probabilities: bool, engine: EngineName | None
    ) -> tuple[EngineName, Any, Any]:
        compiled = self._compiled
        if compiled is not None and engine != "sklearn" and (finite or self._compiled_takes_nan):
            try:
                y, shares = compiled.run(X, finite=finite, probabilities=probabilities)
            # It need not be the model's fault: scikit-learn has the last word.
            except Exception as error:
                logger.debug("The compiled model failed", exc_info=error)
            else:
                return compiled.name, y, shares if probabilities else None
        original = self._original
        try:
            y, shares = original.run(X, finite=finite, probabilities=probabilities)
        # Any estimator, any exception: all of them mean the same to the caller.
        except Exception as error:
            raise PredictionError("the model failed on this input") from error
        return original.name, y, shares if probabilities else None


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
