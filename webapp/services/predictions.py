"""Predictions: from a reference and rows to facts."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from webapp import metrics
from webapp.db.tables import ModelVersion
from webapp.errors import AppError, ModelLoadError, ModelNotFoundError, PayloadTooLargeError
from webapp.events import schema
from webapp.events.timing import log_performance
from webapp.extensions import db
from webapp.ml import attempts
from webapp.ml.cache import PredictorCache
from webapp.ml.inputs import Rows
from webapp.ml.loading import load_estimator
from webapp.ml.passport import Passport
from webapp.ml.predictor import Prediction, Predictor
from webapp.ml.store import ModelStore
from webapp.services.registry import Registry, ResolvedVersion
from webapp.services.tokens import Identity
from webapp.settings import Settings

logger = logging.getLogger(__name__)

# What a request holds can depend on the model that it is for.
RowsReader = Callable[[Predictor], Rows]


@dataclass(frozen=True)
class Served:
    """A prediction, and how it came about."""

    prediction: Prediction
    version: ResolvedVersion
    passport: Passport
    cache_hit: bool
    load_seconds: float


class Predictions:
    """Predict with registered models, each loaded once per process."""

    def __init__(self, settings: Settings, store: ModelStore, registry: Registry) -> None:
        self._settings = settings
        self._store = store
        self._registry = registry
        self._cache = PredictorCache(settings.model_cache_bytes, self._load)

    def predict(
        self, caller: Identity, reference: str, rows: Rows | RowsReader, *, probabilities: bool
    ) -> Served:
        """Predict a batch and write its line, whatever the outcome.

        Raises
        ------
        ModelNotFoundError, ConflictError : no version that may be used
        PayloadTooLargeError : more rows than MAX_ROWS
        InvalidInputError : the rows do not match the model's passport
        PredictionError, ModelLoadError : the model failed
        """
        started = time.perf_counter()
        version: ResolvedVersion | None = None
        try:
            version = self._registry.resolve(caller, reference)
            if not callable(rows):
                self._check_count(rows)
            predictor, cache_hit, load_seconds = self._cache.get(version.digest)
            if callable(rows):
                rows = rows(predictor)
                self._check_count(rows)
            with attempts.note(version.digest):
                prediction = predictor.predict(rows, probabilities=probabilities)
        except AppError as error:
            _log_failure(version, error, time.perf_counter() - started)
            raise
        _log_success(version, prediction, predictor.engine)
        return Served(prediction, version, predictor.passport, cache_hit, load_seconds)

    def describe(self, caller: Identity, reference: str) -> tuple[ResolvedVersion, Predictor]:
        """Find the version that a reference names, and its predictor."""
        version = self._registry.resolve(caller, reference)
        return version, self._cache.get(version.digest)[0]

    def _check_count(self, rows: Rows) -> None:
        if len(rows) > self._settings.max_rows:
            raise PayloadTooLargeError(
                f"input_data has {len(rows)} rows; one request may have {self._settings.max_rows}"
            )

    @log_performance("model_loading")
    def _load(self, digest: str) -> Predictor:
        started = time.perf_counter()
        row = db.session.execute(
            select(ModelVersion.model_id, ModelVersion.version, ModelVersion.passport)
            .where(ModelVersion.digest == digest)
            .limit(1)
        ).one_or_none()
        if row is None:
            raise ModelNotFoundError("there is no such model, or it is not yours")
        about = {"model_id": row.model_id, "model_version": row.version}
        try:
            data = self._store.read(digest)
            with attempts.note(digest):
                estimator = load_estimator(data, trusted=self._settings.trusted_globals)
            predictor = Predictor(estimator, Passport.from_dict(row.passport))
        except AppError as error:
            duration = time.perf_counter() - started
            metrics.MODEL_LOAD_SECONDS.labels("failure").observe(duration)
            logger.error(
                "Model load failed",
                exc_info=True,
                extra={
                    "event_type": schema.MODEL_LOAD_FAILED,
                    "duration": round(duration, 6),
                    "reason": error.message,
                    **about,
                },
            )
            raise ModelLoadError("the model cannot be loaded any more") from error
        duration = time.perf_counter() - started
        metrics.MODEL_LOAD_SECONDS.labels("success").observe(duration)
        logger.info(
            "Model loaded",
            extra={
                "event_type": schema.MODEL_LOADED,
                "duration": round(duration, 6),
                "bytes": len(data),
                "engine": predictor.engine,
                **about,
            },
        )
        return predictor


def _log_success(version: ResolvedVersion, prediction: Prediction, engine: str) -> None:
    metrics.observe_prediction(version.name, prediction.rows, prediction.duration_seconds)
    logger.info(
        "Prediction completed",
        extra={
            "event_type": schema.PREDICTION,
            "action": "make_prediction",
            "outcome": "success",
            "model_id": version.model_id,
            "model_name": version.name,
            "model_version": version.version,
            "rows": prediction.rows,
            "duration": round(prediction.duration_seconds, 6),
            "engine": engine,
        },
    )


def _log_failure(version: ResolvedVersion | None, error: AppError, duration: float) -> None:
    about: dict[str, Any] = {}
    if version is not None:
        about = {
            "model_id": version.model_id,
            "model_name": version.name,
            "model_version": version.version,
        }
    metrics.count_failed_prediction(version.name if version is not None else "")
    logger.warning(
        "Prediction failed",
        extra={
            "event_type": schema.PREDICTION,
            "action": "make_prediction",
            "outcome": "failure",
            "error": type(error).__name__,
            "reason": error.message,
            "duration": round(duration, 6),
            **about,
        },
    )
