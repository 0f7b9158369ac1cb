"""The Open Inference Protocol V2, with its binary tensor data extension: ``/v2``."""

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

import orjson
from flask import Blueprint, Response, request

from webapp.db.schema import find_problem
from webapp.errors import (
    ConflictError,
    InvalidInputError,
    ServiceUnavailableError,
    UnsupportedMediaTypeError,
)
from webapp.events.canonical import annotate
from webapp.extensions import db
from webapp.ml import tensors
from webapp.ml.inputs import Rows
from webapp.ml.predictor import Predictor
from webapp.ml.tensors import Tensor
from webapp.parts import parts
from webapp.web.body import parse, read_bytes, validate
from webapp.web.docs import VERSION
from webapp.web.schemas import InferInput, InferRequest
from webapp.web.security import caller, requires_scope
from webapp.web.serving import serve

blueprint = Blueprint("v2", __name__, url_prefix="/v2")

_JSON_BYTES: Final = "Inference-Header-Content-Length"
_SHOWN_VERSIONS: Final = 200
_LOGGED_ID_CHARS: Final = 128
# tritonclient sends no media type at all.
_MEDIA_TYPES: Final = {"", "application/json", "application/octet-stream"}


@blueprint.get("/health/live")
def live() -> dict[str, Any]:
    """Say that this process answers."""
    return {"live": True}


@blueprint.get("/health/ready")
def ready() -> dict[str, Any]:
    """Say whether requests can be served; models are loaded when they are first asked for."""
    problem = find_problem(db.engine)
    if problem:
        raise ServiceUnavailableError(problem)
    return {"ready": True, "live": True}


@blueprint.get("")
def server() -> dict[str, Any]:
    """Say what serves here."""
    return {"name": "pellucid", "version": VERSION, "extensions": ["binary_tensor_data"]}


@blueprint.get("/models/<model>")
@blueprint.get("/models/<model>/versions/<version>")
@requires_scope("predict")
def metadata(model: str, version: str | None = None) -> dict[str, Any]:
    """Say which tensors a model takes and answers with."""
    resolved, predictor = parts().predictions.describe(caller(), _reference(model, version))
    versions, _ = parts().catalog.list_versions(caller(), resolved.model_id, 1, _SHOWN_VERSIONS)
    return {
        "name": model,
        "versions": [str(known["version"]) for known in versions],
        "platform": "sklearn_joblib",
        "inputs": tensors.describe_inputs(predictor),
        "outputs": tensors.describe_outputs(predictor.passport),
    }


@blueprint.get("/models/<model>/ready")
@blueprint.get("/models/<model>/versions/<version>/ready")
@requires_scope("predict")
def model_ready(model: str, version: str | None = None) -> dict[str, Any]:
    """Say whether a model can be used."""
    try:
        parts().registry.resolve(caller(), _reference(model, version))
    except ConflictError as error:  # what this protocol expects of one that is not ready
        raise ServiceUnavailableError(error.message) from None
    return {"name": model, "ready": True}


@blueprint.post("/models/<model>/infer")
@blueprint.post("/models/<model>/versions/<version>/infer")
@requires_scope("predict")
def infer(model: str, version: str | None = None) -> Response:
    """Predict for the rows that the input tensors hold."""
    body, tail = _read_request()
    if body.id is not None:
        annotate(client_request_id=body.id[:_LOGGED_ID_CHARS])
    wanted = [output.name for output in body.outputs] or [tensors.PREDICT]

    def rows(predictor: Predictor) -> Rows:
        _check_outputs(wanted, predictor)
        return tensors.to_rows(_read_tensors(body.inputs, tail), predictor)

    served = serve(_reference(model, version), rows, probabilities=tensors.PREDICT_PROBA in wanted)
    outputs = [tensors.to_tensor(name, served.prediction, served.passport) for name in wanted]
    answer = {"model_name": model, "model_version": str(served.version.version)}
    if body.id is not None:
        answer["id"] = body.id
    everywhere = body.parameters.get("binary_data_output") is True
    own = {output.name: output.parameters.get("binary_data") for output in body.outputs}
    raw = {
        name for name in wanted if own.get(name) is True or (own.get(name) is None and everywhere)
    }
    return _answer(answer, outputs, raw)


def _reference(model: str, version: str | None) -> str:
    return model if version is None else f"{model}@{version}"


def _read_request() -> tuple[InferRequest, bytes]:
    """Read the JSON part of the body, and the raw tensors behind it."""
    if request.mimetype not in _MEDIA_TYPES or request.content_encoding:
        raise UnsupportedMediaTypeError(
            "the body must be JSON, with raw tensors behind it or without, not compressed"
        )
    body = read_bytes()
    length = request.headers.get(_JSON_BYTES, str(len(body)))
    if not (length.isascii() and length.isdecimal() and len(length) < 16):
        raise InvalidInputError(f"{_JSON_BYTES} must be a number of bytes")
    if int(length) > len(body):
        raise InvalidInputError(f"{_JSON_BYTES} is more than the {len(body)} bytes of the body")
    try:
        content = parse(body[: int(length)])
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"the body is not valid JSON: {error.msg}") from None
    return validate(InferRequest, content), body[int(length) :]


def _read_tensors(inputs: Iterable[InferInput], tail: bytes) -> list[Tensor]:
    found, position = [], 0
    for one in inputs:
        size = one.parameters.get("binary_data_size")
        if size is None:
            found.append(tensors.from_json(one.name, one.datatype, one.shape, one.data or []))
            continue
        if type(size) is not int or not 0 <= size <= len(tail) - position:
            raise InvalidInputError(
                f"binary_data_size of input {one.name[:80]!r} must be a number of bytes that follow"
            )
        raw = tail[position : position + size]
        found.append(tensors.from_bytes(one.name, one.datatype, one.shape, raw))
        position += size
    if position != len(tail):
        raise InvalidInputError(f"{len(tail) - position} bytes follow the last tensor")
    return found


def _check_outputs(wanted: list[str], predictor: Predictor) -> None:
    known = [output["name"] for output in tensors.describe_outputs(predictor.passport)]
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(known):
        raise InvalidInputError(f"outputs must be of {' and '.join(known)}, each once")


def _answer(answer: dict[str, Any], outputs: list[Tensor], raw: set[str]) -> Response:
    described, tails = [], []
    for output in outputs:
        if output.name in raw:
            tails.append(tensors.to_bytes(output))
            parameters = {"binary_data_size": len(tails[-1])}
            described.append({**output.about, "parameters": parameters})
        else:
            described.append({**output.about, "data": output.values})
    head = orjson.dumps({**answer, "outputs": described})
    if not tails:
        return Response(head, mimetype="application/json")
    response = Response(b"".join(chain([head], tails)), mimetype="application/octet-stream")
    response.headers[_JSON_BYTES] = str(len(head))
    return response
