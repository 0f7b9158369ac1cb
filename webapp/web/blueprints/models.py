"""Models: ``/api/v1/models``."""

import io
from dataclasses import asdict
from typing import Any, cast

from flask import Blueprint, Response, request, send_file

from webapp.errors import AppError
from webapp.events.actions import record_action
from webapp.events.canonical import annotate
from webapp.parts import parts
from webapp.services.catalog import ModelInfo
from webapp.web.body import read_json, read_query
from webapp.web.docs import documented
from webapp.web.hooks import finish_with_stream
from webapp.web.schemas import (
    Alias,
    Aliases,
    AliasTarget,
    Model,
    ModelChanges,
    Page,
    PageQuery,
    Success,
    UploadedModel,
    UploadForm,
    Version,
)
from webapp.web.security import caller, requires_scope
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
@requires_scope("models")
def upload() -> tuple[dict[str, Any], int]:
    """Upload a fitted estimator, saved with joblib, as the next version of a name.

    It is compiled afterwards, which takes seconds: `compilation` of the version's passport then
    says which engine serves it, and why. A `sample` of its input makes that check a better one.
    """
    streaming = cast(StreamingRequest, request)
    about: dict[str, Any] = {}
    try:
        sent = read_upload(streaming, parts().settings.max_upload_bytes)
        incoming, name = sent.file, sent.fields["name"]
        about = {"sha256": incoming.digest, "bytes": incoming.bytes, "name": name[:64]}
        description = sent.fields.get("description")
        new = parts().registry.add(caller(), incoming, name, description, sent.sample)
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
    parts().compilations.wake()
    return {"success": True, "data": asdict(new)}, 201


@blueprint.get("")
@documented("models", Success[Page[Model]], query=PageQuery)
@requires_scope("models")
def list_models() -> dict[str, Any]:
    """List your models and the shared ones, newest first."""
    query = read_query(PageQuery)
    models, total = parts().catalog.list_models(caller(), query.page, query.per_page)
    items = [_told(model) for model in models]
    return {"success": True, "data": {"items": items, **query.model_dump(), "total": total}}


@blueprint.get("/<model_id>")
@documented("models", Success[Model], failures=(404,))
@requires_scope("models")
def get_model(model_id: str) -> dict[str, Any]:
    """Read a model, by its id or (your own) by its name, with all its versions."""
    return {"success": True, "data": _told(parts().catalog.get_model(caller(), model_id))}


@blueprint.patch("/<model_id>")
@documented("models", Success[Model], json=ModelChanges, failures=(403, 404, 409))
@requires_scope("models")
def change_model(model_id: str) -> dict[str, Any]:
    """Rename, describe, share or unshare a model of yours, or pin it to scikit-learn."""
    changes = read_json(ModelChanges).model_dump(exclude_unset=True)
    try:
        model = parts().registry.change(caller(), model_id, changes)
    except AppError as error:
        record_action("change_model", outcome="failure", reason=error.message)
        raise
    record_action("change_model", details={"changed": sorted(changes)}, model_id=model.id)
    return {"success": True, "data": _told(model)}


@blueprint.delete("/<model_id>")
@documented("models", Success[Model], failures=(403, 404))
@requires_scope("models")
def delete_model(model_id: str) -> dict[str, Any]:
    """Delete a model of yours with all its versions."""
    try:
        model = parts().registry.delete(caller(), model_id)
    except AppError as error:
        record_action("delete_model", outcome="failure", reason=error.message)
        raise
    record_action("delete_model", model_id=model.id, model_name=model.name)
    return {"success": True, "data": _told(model)}


@blueprint.get("/<model_id>/versions")
@documented("models", Success[Page[Version]], query=PageQuery, failures=(404,))
@requires_scope("models")
def list_versions(model_id: str) -> dict[str, Any]:
    """List the versions of a model, newest first."""
    query = read_query(PageQuery)
    items, total = parts().catalog.list_versions(caller(), model_id, query.page, query.per_page)
    return {"success": True, "data": {"items": items, **query.model_dump(), "total": total}}


@blueprint.get("/<model_id>/aliases")
@documented("models", Success[Aliases], failures=(404,))
@requires_scope("models")
def list_aliases(model_id: str) -> dict[str, Any]:
    """Read which version each alias of a model names."""
    aliases = parts().catalog.list_aliases(caller(), model_id)
    return {"success": True, "data": {"aliases": aliases}}


@blueprint.put("/<model_id>/aliases/<alias>")
@documented("models", Success[Alias], json=AliasTarget, failures=(403, 404, 409))
@requires_scope("models")
def set_alias(model_id: str, alias: str) -> dict[str, Any]:
    """Let an alias name a version of a model of yours: everywhere within 2 s, failing nobody."""
    version = read_json(AliasTarget).version
    details: dict[str, Any] = {"alias": alias[:64], "version": version}
    try:
        model, details["before"] = parts().registry.set_alias(caller(), model_id, alias, version)
    except AppError as error:
        record_action("set_alias", outcome="failure", reason=error.message, details=details)
        raise
    record_action("set_alias", details=details, model_id=model.id, model_version=version)
    data = {"model_id": model.id, "alias": alias, "version": version}
    return {"success": True, "data": data}


@blueprint.delete("/<model_id>/aliases/<alias>")
@documented("models", Success[Alias], failures=(403, 404))
@requires_scope("models")
def delete_alias(model_id: str, alias: str) -> dict[str, Any]:
    """Take an alias from a model of yours."""
    details = {"alias": alias[:64]}
    try:
        model, version = parts().registry.delete_alias(caller(), model_id, alias)
    except AppError as error:
        record_action("delete_alias", outcome="failure", reason=error.message, details=details)
        raise
    record_action("delete_alias", details=details, model_id=model.id, model_version=version)
    data = {"model_id": model.id, "alias": alias, "version": version}
    return {"success": True, "data": data}


@blueprint.get("/<model_id>/download")
@documented("models", failures=(403, 404))
@requires_scope("models")
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
    response.headers["Cache-Control"] = "no-store"  # not what send_file says
    return finish_with_stream(response)


def _told(model: ModelInfo) -> dict[str, Any]:
    return {
        name: value
        for name, value in asdict(model).items()
        if name != "versions" or value is not None
    }
