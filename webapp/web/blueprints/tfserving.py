"""The REST API of TensorFlow Serving: ``/v1/models/{model}``."""

from typing import Any

from flask import Blueprint

from webapp.errors import InvalidInputError
from webapp.ml import tables
from webapp.ml.predictor import Predictor
from webapp.parts import parts
from webapp.web.body import read_json
from webapp.web.schemas import ServingRequest
from webapp.web.security import caller, requires_scope
from webapp.web.serving import serve

blueprint = Blueprint("tfserving", __name__, url_prefix="/v1/models")

_SHOWN_VERSIONS = 200


@blueprint.post("/<model>:predict")
@blueprint.post("/<model>/versions/<version>:predict")
@blueprint.post("/<model>/labels/<version>:predict")
@requires_scope("predict")
def predict(model: str, version: str | None = None) -> dict[str, Any]:
    """Predict for instances, one for each row, or for inputs, one for each column."""
    body = read_json(ServingRequest)
    if (body.instances is None) == (body.inputs is None):
        raise InvalidInputError("the body must have exactly one of instances and inputs")

    def rows(predictor: Predictor) -> list[Any]:
        if isinstance(body.inputs, dict):
            return tables.from_columns(body.inputs, predictor)
        return tables.from_instances(body.inputs or body.instances or [])

    served = serve(model if version is None else f"{model}@{version}", rows)
    answer = "outputs" if body.instances is None else "predictions"
    return {answer: served.prediction.predictions}


@blueprint.get("/<model>")
@blueprint.get("/<model>/versions/<version>")
@blueprint.get("/<model>/labels/<version>")
@requires_scope("predict")
def status(model: str, version: str | None = None) -> dict[str, Any]:
    """Say which versions of a model there are, and whether they can be used."""
    if version is not None:
        resolved = parts().registry.resolve(caller(), f"{model}@{version}")
        return {"model_version_status": [_status(resolved.version, resolved.state)]}
    known, _ = parts().catalog.list_versions(caller(), model, 1, _SHOWN_VERSIONS)
    return {"model_version_status": [_status(one["version"], one["state"]) for one in known]}


def _status(version: int, state: str) -> dict[str, Any]:
    usable = state == "ready"
    return {
        "version": str(version),
        "state": "AVAILABLE" if usable else "END",
        "status": {
            "error_code": "OK" if usable else "UNAVAILABLE",
            "error_message": "" if usable else state,
        },
    }
