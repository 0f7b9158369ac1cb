"""Predictions: ``/api/v1/predictions``."""

from typing import Any

from flask import Blueprint, Response, request

from webapp.logstore import queries
from webapp.ml.delimited import write_prediction
from webapp.parts import parts
from webapp.services.predictions import Served
from webapp.web.body import read_csv, read_json, read_query
from webapp.web.docs import CSV, documented
from webapp.web.schemas import (
    CsvQuery,
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
    query=CsvQuery,
    failures=(404, 409, 413, 415, 500),
    csv=True,
)
@requires_scope("predict")
def predict() -> dict[str, Any] | Response:
    """Predict a batch of rows with a model of yours or a shared one.

    A body of CSV has a header with the feature names, in any order; an empty field is a missing
    value. For a model without feature names, `Content-Type: text/csv; header=present` or
    `header=absent` says whether there is a header. `?engine=sklearn` has scikit-learn itself
    answer, also where the model was compiled.
    """
    if request.mimetype == CSV:
        query = read_query(CsvQuery)
        served = serve(query.model_id, read_csv(), probabilities=query.probabilities)
    else:
        body = read_json(PredictRequest)
        served = serve(body.model_id, body.input_data, probabilities=body.probabilities)
    # The library's parser is asked only where its answer could matter.
    if CSV in request.environ.get("HTTP_ACCEPT", "") and _prefers_csv():
        return Response(write_prediction(served.prediction), mimetype=CSV)
    return _describe(served)


def _prefers_csv() -> bool:
    accepted = request.accept_mimetypes
    return accepted.best_match(["application/json", CSV]) == CSV


def _describe(served: Served) -> dict[str, Any]:
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
