"""MLflow's scoring protocol, with the model in the path: ``/invocations/{model}``."""

from typing import Any

from flask import Blueprint, Response, request

from webapp.db.schema import find_problem
from webapp.errors import InvalidInputError, ServiceUnavailableError
from webapp.extensions import db
from webapp.ml import tables
from webapp.ml.predictor import Predictor
from webapp.services.predictions import RowsReader
from webapp.web.body import read_csv, read_json
from webapp.web.docs import CSV, VERSION
from webapp.web.schemas import ScoringRequest
from webapp.web.security import requires_scope
from webapp.web.serving import serve

blueprint = Blueprint("mlflow", __name__)


@blueprint.post("/invocations/<model>")
@requires_scope("predict")
def invocations(model: str) -> dict[str, Any]:
    """Predict for rows in CSV, or in one of four shapes of JSON."""
    rows = read_csv(header=True) if request.mimetype == CSV else _reader(read_json(ScoringRequest))
    return {"predictions": serve(model, rows).prediction.predictions}


@blueprint.get("/ping")
@blueprint.get("/health")
def health() -> Response:
    """Say whether requests can be served."""
    problem = find_problem(db.engine)
    if problem:
        raise ServiceUnavailableError(problem)
    return Response()


@blueprint.get("/version")
def version() -> Response:
    """Say which version serves here."""
    return Response(VERSION, mimetype="text/plain")


def _reader(body: ScoringRequest) -> RowsReader:
    shapes = {name: given for name, given in body if given is not None}
    if len(shapes) != 1:
        names = ", ".join(ScoringRequest.model_fields)
        raise InvalidInputError(f"the body must have exactly one of {names}")

    def rows(predictor: Predictor) -> list[Any]:
        if body.dataframe_split is not None:
            header = list(map(str, body.dataframe_split.columns))
            return tables.arrange(header, body.dataframe_split.data, predictor)
        if body.dataframe_records is not None:
            return tables.from_records(body.dataframe_records, predictor)
        if isinstance(body.inputs, dict):
            return tables.from_columns(body.inputs, predictor)
        return tables.from_instances(body.inputs or body.instances or [])

    return rows
