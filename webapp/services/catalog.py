"""The catalogue: which models a caller sees, and what is told of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_, select

from webapp.db.tables import ModelAlias, ModelVersion, RegisteredModel
from webapp.errors import ModelNotFoundError, PermissionDeniedError
from webapp.extensions import db, read_page
from webapp.ml.loading import Allowed
from webapp.services.acceptance import state_of
from webapp.services.naming import LATEST, is_id
from webapp.services.tokens import Identity
from webapp.settings import Settings


@dataclass(frozen=True)
class ModelInfo:
    """A registered model as its readers see it."""

    id: str
    name: str
    description: str
    shared: bool
    engine: str
    owner_id: str
    latest_version: int | None
    created_at: datetime
    updated_at: datetime
    versions: list[dict[str, Any]] | None = None  # told where one model is read


class Catalog:
    """The models in the registry, to be read with the rights of a caller."""

    def __init__(self, settings: Settings) -> None:
        self._allowed = Allowed.by(settings)

    def list_models(
        self, caller: Identity, page: int, per_page: int
    ) -> tuple[list[ModelInfo], int]:
        """List the models that the caller may see, newest first, and count them all."""
        visible = select(RegisteredModel).where(_visible_to(caller))
        newest_first = visible.order_by(
            RegisteredModel.created_at.desc(), RegisteredModel.id.desc()
        )
        models, total = read_page(newest_first, page, per_page)
        return [describe(model) for model in models], total

    def get_model(self, caller: Identity, reference: str) -> ModelInfo:
        """Get a model with its versions and their passports."""
        model = find_model(caller, reference)
        versions = [_version_info(version, self._allowed) for version in model.versions]
        return describe(model, versions)

    def list_versions(
        self, caller: Identity, reference: str, page: int, per_page: int
    ) -> tuple[list[dict[str, Any]], int]:
        """List a model's versions with their passports, newest first, and count them all."""
        model_id = find_model(caller, reference).id
        mine = select(ModelVersion).where(ModelVersion.model_id == model_id)
        versions, total = read_page(mine.order_by(ModelVersion.version.desc()), page, per_page)
        return [_version_info(version, self._allowed) for version in versions], total

    def list_aliases(self, caller: Identity, reference: str) -> dict[str, int]:
        """Tell which version each alias of a model names; ``latest`` is there by itself."""
        model = find_model(caller, reference)
        aliases = db.session.scalars(
            select(ModelAlias).where(ModelAlias.model_id == model.id).order_by(ModelAlias.alias)
        )
        latest = {} if model.latest_version is None else {LATEST: model.latest_version}
        return latest | {named.alias: named.version for named in aliases}


def find_model(caller: Identity, reference: str) -> RegisteredModel:
    """Get a model by its id, or by its name among the caller's own."""
    if is_id(reference):
        named: ColumnElement[bool] = RegisteredModel.id == reference
    else:
        named = (RegisteredModel.owner_id == caller.user_id) & (RegisteredModel.name == reference)
    model = db.session.scalar(select(RegisteredModel).where(named, _visible_to(caller)))
    if model is None:
        raise ModelNotFoundError("there is no such model, or it is not yours")
    return model


def find_own_model(caller: Identity, reference: str) -> RegisteredModel:
    """Get a model that the caller may change."""
    model = find_model(caller, reference)
    if caller.role != "admin" and model.owner_id != caller.user_id:
        raise PermissionDeniedError("only its owner and admins may do this with a model")
    return model


def describe(model: RegisteredModel, versions: list[dict[str, Any]] | None = None) -> ModelInfo:
    """Tell of a model, with its versions if they are given."""
    return ModelInfo(
        id=model.id,
        name=model.name,
        description=model.description,
        shared=model.shared,
        engine=model.engine,
        owner_id=model.owner_id,
        latest_version=model.latest_version,
        created_at=model.created_at,
        updated_at=model.updated_at,
        versions=versions,
    )


def _visible_to(caller: Identity) -> ColumnElement[bool]:
    if caller.role == "admin":
        return RegisteredModel.id.is_not(None)
    return or_(RegisteredModel.owner_id == caller.user_id, RegisteredModel.shared)


def _version_info(version: ModelVersion, allowed: Allowed) -> dict[str, Any]:
    return {
        "version": version.version,
        "state": state_of(version, allowed),
        "refusal": version.refusal,
        "bytes": version.bytes,
        "sha256": version.digest,
        "created_at": version.created_at,
        "passport": version.passport,
    }
