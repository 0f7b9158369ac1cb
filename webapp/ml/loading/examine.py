"""Loads a file once, tries it, and writes its passport; runs in the child only."""

import dataclasses
import hashlib
import os
import time
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from webapp.errors import InvalidInputError, PredictionError
from webapp.ml.columns import Column, describe_columns
from webapp.ml.delimited import read_sample
from webapp.ml.graph import walk
from webapp.ml.loading.allowed import NOTHING_MORE, Allowed
from webapp.ml.loading.decompress import decompress
from webapp.ml.loading.loader import guard, load_with_version
from webapp.ml.loading.refusals import rejected
from webapp.ml.outputs import clean_text, to_json
from webapp.ml.passport import Passport
from webapp.ml.predictor import Predictor

# What a small model's Python objects take, which its file does not show.
_BASE_BYTES: Final = 64 * 2**10
_MAX_PROBED_FEATURES: Final = 200
_MAX_CLASSES: Final = 10_000
_MAX_NAME_LENGTH: Final = 256


def examine(
    data: bytes, max_features: int, allowed: Allowed = NOTHING_MORE, sample: bytes = b""
) -> Passport:
    """Load, check and try a model; look whether it takes the rows of a sample, which is CSV.

    Raises
    ------
    ModelRejectedError : with the reason
    InvalidInputError : the model is accepted, and the sample does not fit it
    """
    resident = _resident_bytes()
    started = time.perf_counter()
    stream = decompress(data)
    estimator, version = load_with_version(stream, allowed)
    load_seconds = time.perf_counter() - started
    memory_bytes = _BASE_BYTES + max(len(stream), _resident_bytes() - resident)
    passport = guard(lambda: _describe(estimator, max_features))
    if sample:
        _check_sample(estimator, passport, sample)
    return dataclasses.replace(
        passport,
        sklearn_version=version or sklearn.__version__,
        load_seconds=load_seconds,
        memory_bytes=memory_bytes,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _describe(estimator: Any, max_features: int) -> Passport:
    if not hasattr(estimator, "predict"):
        raise rejected(
            "not_an_estimator",
            f"a {type(estimator).__name__} does not predict; save the model that does, or a"
            " pipeline that ends with it",
        )
    _check_fitted(estimator)
    width = _count_features(estimator, max_features)
    columns = describe_columns(estimator, width)
    passport = Passport(
        estimator=_name(estimator),
        steps=[_name(step) for _, step in estimator.steps]
        if isinstance(estimator, Pipeline)
        else [],
        sklearn_version=sklearn.__version__,
        sklearn_version_here=sklearn.__version__,
        n_features_in_=width,
        feature_names_in_=_list_names(estimator),
        feature_kinds=[column.kind for column in columns],
        accepts_nan=False,
        nan_features=[],
        classes_=_list_classes(estimator),
        has_predict_proba=False,
        n_outputs=1,
        load_seconds=0.0,
        memory_bytes=0,
        smoke_prediction=None,
        bytes=0,
        sha256="",
    )
    return _try_out(estimator, passport, columns)


def _check_sample(estimator: Any, passport: Passport, sample: bytes) -> None:
    predictor = Predictor(estimator, passport)
    try:
        predictor.read(read_sample(sample, predictor))
    except InvalidInputError as error:
        raise InvalidInputError(
            f"the sample does not fit the model: {error.message}",
            {"field": "sample", **error.details},
        ) from None


def _check_fitted(estimator: Any) -> None:
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise _not_fitted() from None


def _count_features(estimator: Any, max_features: int) -> int:
    width = getattr(estimator, "n_features_in_", None)
    if width is None and describe_columns(estimator, 1)[0].kind == "text":
        return 1
    if type(width) is not int or width < 1:
        raise rejected("not_fitted", "the model does not say how many features it takes")
    if width > max_features:
        raise rejected(
            "limits",
            f"the model takes {width} features, and at most {max_features} are allowed here",
            n_features_in_=width,
            max_features=max_features,
        )
    return width


def _list_names(estimator: Any) -> list[str] | None:
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return None
    texts = [clean_text(name) for name in names]
    if len(set(texts)) < len(texts) or max(map(len, texts)) > _MAX_NAME_LENGTH:
        raise rejected(
            "limits", f"feature names must be distinct and at most {_MAX_NAME_LENGTH} long"
        )
    return texts


def _list_classes(estimator: Any) -> list[Any] | None:
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return None
    listed: list[Any] = to_json(classes)
    if len(listed) > _MAX_CLASSES:
        raise rejected("limits", f"the model has more than {_MAX_CLASSES} classes")
    return listed


def _try_out(estimator: Any, passport: Passport, columns: list[Column]) -> Passport:
    """Predict one made-up row, then find out by trying which features may be missing."""
    row = [column.example for column in columns]
    predictions = _predict(estimator, passport, row)
    likely = dataclasses.replace(passport, has_predict_proba=hasattr(estimator, "predict_proba"))
    # Some estimators have the method and raise in it, as a chain whose members lack it.
    has_predict_proba = _takes(Predictor(estimator, likely), row, probabilities=True)
    probe = Predictor(estimator, dataclasses.replace(passport, accepts_nan=True))
    accepts_nan = _takes(probe, [None] * len(row))
    nan_features: list[int] = []
    mixed = any(isinstance(part, ColumnTransformer) for part in walk(estimator))
    if not accepts_nan and mixed and len(row) <= _MAX_PROBED_FEATURES:
        nan_features = [
            position
            for position in range(len(row))
            if _takes(probe, [None if i == position else value for i, value in enumerate(row)])
        ]
    return dataclasses.replace(
        passport,
        accepts_nan=accepts_nan,
        nan_features=nan_features,
        has_predict_proba=has_predict_proba,
        n_outputs=len(predictions[0]) if isinstance(predictions[0], list) else 1,
        smoke_prediction=predictions[0],
    )


def _predict(estimator: Any, passport: Passport, row: list[Any]) -> list[Any]:
    predictor = Predictor(estimator, passport)
    try:
        answer = predictor.predict([row])
    except PredictionError as error:
        if isinstance(error.__cause__, NotFittedError):
            raise _not_fitted() from error
        if isinstance(error.__cause__, MemoryError):
            raise rejected("limits", "one prediction needs more memory than allowed") from error
        raise rejected(
            "smoke_prediction_failed",
            f"the model fails on one ordinary row ({type(error.__cause__).__name__}); try"
            " model.predict on a single row before saving it",
        ) from error
    if len(answer.predictions) != 1:
        raise rejected("smoke_prediction_failed", "the model does not answer once per row")
    return answer.predictions


def _takes(predictor: Predictor, row: list[Any], *, probabilities: bool = False) -> bool:
    try:
        predictor.predict([row], probabilities=probabilities)
    except (PredictionError, InvalidInputError):
        return False
    return True


def _name(step: Any) -> str:
    if step is None or isinstance(step, str):
        return "passthrough"
    # Private modules are no names that a user knows: sklearn.svm._classes.SVC is sklearn.svm.SVC.
    public = takewhile(lambda part: not part.startswith("_"), type(step).__module__.split("."))
    return ".".join([*public, type(step).__name__])


def _not_fitted() -> Exception:
    return rejected("not_fitted", "the model is not fitted; call fit before saving it")


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm").read_text().split()
    return int(statm[1]) * os.sysconf("SC_PAGE_SIZE")
