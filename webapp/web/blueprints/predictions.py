"""Predictions: ``/api/v1/predictions``."""

from typing import Any

from flask import Blueprint

from webapp.logstore import queries
from webapp.parts import parts
from webapp.web.body import read_json, read_query
from webapp.web.docs import documented
from webapp.web.schemas import (
    EngineQuery,
    HistoryQuery,
    Page,
    PredictRequest,
    PredictResult,
    Success,
)
from webapp.web.security import caller, requires_scope
from webapp.web.serving import serve
from webapp.web.windows import read_window

blueprint = Blueprint("predictions", __name__, url_prefix="/api/v1/predictions")


@blueprint.post("/predict")
@documented(
    "predictions",
    Success[PredictResult],
    json=PredictRequest,
    query=EngineQuery,
    failures=(404, 409, 413, 415, 500),
)
@requires_scope("predict")
def predict() -> dict[str, Any]:
    """Predict a batch of rows with a model of yours or a shared one.

    `?engine=sklearn` has scikit-learn itself answer, also where the model was compiled.
    """
    body = read_json(PredictRequest)
    served = serve(body.model_id, body.input_data, probabilities=body.probabilities)
    prediction, version = served.prediction, served.version
    data: dict[str, Any] = {
        "predictions": prediction.predictions,
        "model_id": version.model_id,
        "model_version": version.version,
        "rows": prediction.rows,
        "duration": round(prediction.duration_seconds, 6),
    }
    if prediction.classes is not None:
        data["classes"] = prediction.classes
    if prediction.probabilities is not None:
        data["probabilities"] = prediction.probabilities
    return {"success": True, "data": data}


@blueprint.get("")
@documented("predictions", Success[Page[dict[str, Any]]], query=HistoryQuery)
@requires_scope("predict")
def history() -> dict[str, Any]:
    """List your predictions, newest first, as the log has them."""
    query = read_query(HistoryQuery)
    rows, total = parts().answers.ask(
        queries.predictions, caller().user_id, query.page, query.per_page, read_window(query)
    )
    return {
        "success": True,
        "data": {"items": rows, "page": query.page, "per_page": query.per_page, "total": total},
    }
