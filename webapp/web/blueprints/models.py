"""Models: ``/api/v1/models``."""

import io
from dataclasses import asdict
from typing import Any, cast

from flask import Blueprint, Response, request, send_file

from webapp.errors import AppError
from webapp.events.actions import record_action
from webapp.events.canonical import annotate
from webapp.parts import parts
from webapp.web.body import read_json, read_query
from webapp.web.docs import documented
from webapp.web.hooks import finish_with_stream
from webapp.web.schemas import (
    Model,
    ModelChanges,
    Page,
    PageQuery,
    Success,
    UploadedModel,
    UploadForm,
)
from webapp.web.security import caller, requires_user
from webapp.web.uploads import StreamingRequest, read_upload

blueprint = Blueprint("models", __name__, url_prefix="/api/v1/models")


@blueprint.post("/upload")
@documented(
    "models",
    Success[UploadedModel],
    status=201,
    form=UploadForm,
    failures=(413, 415, 422, 503, 507),
)
@requires_user
def upload() -> tuple[dict[str, Any], int]:
    """Upload a fitted estimator, saved with joblib, as the next version of a name."""
    streaming = cast(StreamingRequest, request)
    about: dict[str, Any] = {}
    try:
        incoming, fields = read_upload(streaming, parts().settings.max_upload_bytes)
        about = {"sha256": incoming.digest, "bytes": incoming.bytes, "name": fields["name"][:64]}
        new = parts().registry.add(caller(), incoming, fields["name"], fields.get("description"))
    except AppError as error:
        reason = error.details.get("reason", error.message)
        record_action("upload_model", outcome="failure", reason=reason, details=about)
        raise
    finally:
        for file in streaming.received:
            file.discard()
    facts: dict[str, Any] = {
        "model_id": new.id,
        "model_name": new.name,
        "model_version": new.version,
    }
    annotate(**facts)
    record_action("upload_model", details=about, **facts)
    return {"success": True, "data": asdict(new)}, 201


@blueprint.get("")
@documented("models", Success[Page[Model]], query=PageQuery)
@requires_user
def list_models() -> dict[str, Any]:
    """List your models and the shared ones, newest first."""
    query = read_query(PageQuery)
    models, total = parts().registry.list_models(caller(), query.page, query.per_page)
    items = [asdict(model) for model in models]
    return {"success": True, "data": {"items": items, **query.model_dump(), "total": total}}


@blueprint.get("/<model_id>")
@documented("models", Success[Model], failures=(404,))
@requires_user
def get_model(model_id: str) -> dict[str, Any]:
    """Read a model, by its id or (your own) by its name, with all its versions."""
    return {"success": True, "data": asdict(parts().registry.get_model(caller(), model_id))}


@blueprint.patch("/<model_id>")
@documented("models", Success[Model], json=ModelChanges, failures=(403, 404, 409))
@requires_user
def change_model(model_id: str) -> dict[str, Any]:
    """Rename, describe, share or unshare a model of yours."""
    changes = read_json(ModelChanges).model_dump(exclude_unset=True)
    try:
        model = parts().registry.change(caller(), model_id, changes)
    except AppError as error:
        record_action("change_model", outcome="failure", reason=error.message)
        raise
    record_action("change_model", details={"changed": sorted(changes)}, model_id=model.id)
    return {"success": True, "data": asdict(model)}


@blueprint.delete("/<model_id>")
@documented("models", Success[Model], failures=(403, 404))
@requires_user
def delete_model(model_id: str) -> dict[str, Any]:
    """Delete a model of yours with all its versions."""
    try:
        model = parts().registry.delete(caller(), model_id)
    except AppError as error:
        record_action("delete_model", outcome="failure", reason=error.message)
        raise
    record_action("delete_model", model_id=model.id, model_name=model.name)
    return {"success": True, "data": asdict(model)}


@blueprint.get("/<model_id>/download")
@documented("models", failures=(403, 404))
@requires_user
def download(model_id: str) -> Response:
    """Download the file of a version of yours, as it was uploaded."""
    version, data = parts().registry.read_artifact(caller(), model_id)
    annotate(model_id=version.model_id, model_version=version.version, bytes=len(data))
    record_action("download_model", model_id=version.model_id, model_version=version.version)
    response = send_file(
        io.BytesIO(data),
        mimetype="application/octet-stream",
        as_attachment=True,
        download_name=f"{version.name}-{version.version}.joblib",
    )
    response.headers["X-Content-SHA256"] = version.digest
    return finish_with_stream(response)
