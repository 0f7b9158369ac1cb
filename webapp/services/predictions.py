"""Predictions: from a reference and rows to facts."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from webapp import metrics
from webapp.errors import AppError, ModelLoadError, ModelRejectedError, PayloadTooLargeError
from webapp.events import schema
from webapp.events.lines import FrequentLine
from webapp.events.timing import log_performance
from webapp.ml import attempts
from webapp.ml.cache import PredictorCache
from webapp.ml.engines.engine import Engine
from webapp.ml.engines.sklearn_engine import SklearnEngine
from webapp.ml.inputs import Rows
from webapp.ml.loading import Allowed, load_estimator
from webapp.ml.passport import Compilation, EngineName, Passport
from webapp.ml.predictor import Prediction, Predictor
from webapp.ml.store import ModelStore
from webapp.services.acceptance import no_longer_accepted
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
        self._cache = PredictorCache(settings.model_cache_bytes)

    def predict(
        self,
        caller: Identity,
        reference: str,
        rows: Rows | RowsReader,
        *,
        probabilities: bool,
        engine: EngineName | None = None,
    ) -> Served:
        """Predict a batch, by scikit-learn itself if asked to; write its line in any case.

        Raises
        ------
        ModelNotFoundError, ConflictError : no version that may be used
        PayloadTooLargeError : more rows than MAX_ROWS
        InvalidInputError : the rows do not match the model's passport
        PredictionError, ModelLoadError : the model failed
        ServiceUnavailableError : the version is to be judged again
        """
        started = time.perf_counter()
        version: ResolvedVersion | None = None
        try:
            version = self._registry.resolve(caller, reference)
            if not callable(rows):
                self._check_count(rows)
            predictor, cache_hit, load_seconds = self._get(version)
            if callable(rows):
                rows = rows(predictor)
                self._check_count(rows)
            with attempts.note(version.digest):
                prediction = predictor.predict(rows, probabilities=probabilities, engine=engine)
        except AppError as error:
            _log_failure(version, error, time.perf_counter() - started)
            raise
        _log_success(version, prediction)
        return Served(prediction, version, predictor.passport, cache_hit, load_seconds)

    def describe(self, caller: Identity, reference: str) -> tuple[ResolvedVersion, Predictor]:
        """Find the version that a reference names, and its predictor."""
        version = self._registry.resolve(caller, reference)
        return version, self._get(version)[0]

    def _get(self, version: ResolvedVersion) -> tuple[Predictor, bool, float]:
        return self._cache.get(_key(version), partial(self._load, version))

    def _check_count(self, rows: Rows) -> None:
        if len(rows) > self._settings.max_rows:
            raise PayloadTooLargeError(
                f"input_data has {len(rows)} rows; one request may have {self._settings.max_rows}"
            )

    @log_performance("model_loading")
    def _load(self, version: ResolvedVersion) -> Predictor:
        started = time.perf_counter()
        about = {
            "model_id": version.model_id,
            "model_version": version.version,
            "digest": version.digest,
        }
        try:
            data = self._store.read(version.digest)
            with attempts.note(version.digest):
                estimator = load_estimator(data, Allowed.by(self._settings))
                compiled = self._load_compiled(version, SklearnEngine(estimator), about)
            predictor = Predictor(estimator, version.passport, compiled)
        except AppError as error:
            if isinstance(error, ModelLoadError):
                self._registry.check_not_deleted(version)
            duration = time.perf_counter() - started
            metrics.MODEL_LOAD_SECONDS.labels("failure").observe(duration)
            _log_load_failure(error.message, duration, about)
            if isinstance(error, ModelRejectedError):
                # The settings may have changed since it was judged, as what the operator trusts.
                raise no_longer_accepted(error.message, error.details["reason"]) from error
            raise
        duration = time.perf_counter() - started
        metrics.MODEL_LOAD_SECONDS.labels("success").observe(duration)
        logger.info(
            "Model loaded",
            extra={
                "event_type": schema.MODEL_LOADED,
                "duration": round(duration, 6),
                "bytes": len(data),
                "engine": predictor.engine,
                **_describe_compilation(version.passport.compilation),
                **about,
            },
        )
        if predictor.engine == "onnx":
            # It has the estimator as well.
            self._cache.discard((version.digest, None, False))
        return predictor

    def _load_compiled(
        self, version: ResolvedVersion, original: Engine, about: dict[str, Any]
    ) -> Engine | None:
        """Load what serves the version faster; without it, scikit-learn goes on."""
        started = time.perf_counter()
        graph_digest = _graph_of(version)
        if graph_digest is None:
            return None
        # A process that serves no compiled model does without its 18 MB and 30 ms.
        from webapp.ml.engines.onnx_engine import OnnxEngine  # noqa: PLC0415

        try:
            graph = self._store.read_graph(version.digest, graph_digest)
            return OnnxEngine(graph, version.passport, original)
        # The runtime has exceptions of its own, without a common base.
        except Exception as error:
            reason = error.message if isinstance(error, ModelLoadError) else "damaged graph"
            _log_load_failure(reason, time.perf_counter() - started, {**about, "engine": "onnx"})
            return None


def _log_load_failure(reason: str, duration: float, about: dict[str, Any]) -> None:
    logger.error(
        "Model load failed",
        exc_info=True,
        extra={
            "event_type": schema.MODEL_LOAD_FAILED,
            "duration": round(duration, 6),
            "reason": reason,
            **about,
        },
    )


def _describe_compilation(compilation: Compilation | None) -> dict[str, Any]:
    """Tell what the comparison with scikit-learn showed, or why it was left at that."""
    if compilation is None:
        return {}
    if compilation.engine == "sklearn":
        return {"reason": compilation.reason}
    names = ("precision", "verified_rows", "max_difference", "speed_up")
    return {"details": {name: getattr(compilation, name) for name in names}}


def _key(version: ResolvedVersion) -> tuple[str, str | None, bool]:
    """Tell what a predictor depends on: a sample may have shown that its graph takes no NaN."""
    graph, compilation = _graph_of(version), version.passport.compilation
    takes_nan = graph is not None and compilation is not None and compilation.takes_nan
    return version.digest, graph, takes_nan


def _graph_of(version: ResolvedVersion) -> str | None:
    """Tell the digest of the graph that serves a version, if one does."""
    compilation = version.passport.compilation
    return compilation.onnx_sha256 if compilation and version.engine == "onnx" else None


def _log_success(version: ResolvedVersion, prediction: Prediction) -> None:
    metrics.observe_prediction(version.name, prediction.rows, prediction.duration_seconds)
    _completed.emit(
        logging.INFO,
        "Prediction completed",
        {
            "event_type": schema.PREDICTION,
            "action": "make_prediction",
            "outcome": "success",
            "model_version": version.version,
            "rows": prediction.rows,
            "duration": round(prediction.duration_seconds, 6),
            "engine": prediction.engine,
        },
        {"model_id": version.model_id, "model_name": version.name},
    )


_completed: Final = FrequentLine(logger, _log_success, waits=True)


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
