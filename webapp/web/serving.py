"""Predicting for a request, in whatever protocol it came."""

from typing import Any

from flask import request

from webapp.events.canonical import annotate
from webapp.ml.inputs import Rows
from webapp.ml.passport import EngineName
from webapp.parts import parts
from webapp.services.predictions import RowsReader, Served
from webapp.web.body import validate
from webapp.web.schemas import EngineQuery
from webapp.web.security import caller


def serve(reference: str, rows: Rows | RowsReader, *, probabilities: bool = False) -> Served:
    """Predict, and note on the request's event what was done.

    ``?engine=sklearn`` has scikit-learn itself answer, whatever the model was compiled to.
    """
    served = parts().predictions.predict(
        caller(),
        reference,
        rows,
        probabilities=probabilities,
        engine=_read_engine() if request.query_string else None,
    )
    facts: dict[str, Any] = {
        "model_id": served.version.model_id,
        "model_version": served.version.version,
        "rows": served.prediction.rows,
        "predict_duration": round(served.prediction.duration_seconds, 6),
        "model_load_duration": round(served.load_seconds, 6),
        "cache_hit": served.cache_hit,
    }
    annotate(**facts)
    return served


def _read_engine() -> EngineName | None:
    return validate(EngineQuery, {"engine": request.args.get("engine")}).engine
