"""The registry: names, versions and owners of the models in the store, and how they change."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ScalarSelect, delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError

from webapp.db.engine import write_transaction
from webapp.db.tables import (
    ArtifactStrikes,
    DueCompilation,
    ModelAlias,
    ModelVersion,
    RegisteredModel,
    User,
    new_id,
    utc_now,
)
from webapp.errors import (
    ConflictError,
    ModelNotFoundError,
    ModelRejectedError,
    PayloadTooLargeError,
)
from webapp.events.timing import log_performance
from webapp.extensions import db
from webapp.ml.loading import Allowed, judge
from webapp.ml.passport import EngineName, Passport
from webapp.ml.store import Incoming, ModelStore
from webapp.remembered import Remembered
from webapp.services.acceptance import State, refuse_unless_ready, state_of, terms_of
from webapp.services.catalog import ModelInfo, describe, find_model, find_own_model
from webapp.services.naming import LATEST, check_alias, check_description, check_name
from webapp.services.quarantine import is_quarantining
from webapp.services.tokens import Identity
from webapp.settings import Settings

MOST_ALIASES: Final = 100
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
# Promised is 2 s from a change to its effect in every worker; the answer takes its part.
RESOLVED_CACHE_SECONDS: Final = 1.5


@dataclass(frozen=True)
class ResolvedVersion:
    """The version that a reference names, with what a prediction needs to know of it."""

    model_id: str
    name: str
    version_id: str
    version: int
    digest: str
    state: State
    refusal: dict[str, Any] | None
    engine: EngineName
    passport: Passport = field(repr=False)


@dataclass(frozen=True)
class NewVersion:
    """What an accepted upload became."""

    id: str
    name: str
    version: int
    passport: Passport


class Registry:
    """The registered models, seen with the rights of a caller."""

    def __init__(self, settings: Settings, store: ModelStore) -> None:
        self._settings = settings
        self._store = store
        self._allowed = Allowed.by(settings)
        self._resolved: Remembered[tuple[str, str, str], ResolvedVersion] = Remembered(
            RESOLVED_CACHE_SECONDS
        )

    @log_performance("model_upload")
    def add(
        self,
        caller: Identity,
        incoming: Incoming,
        name: str,
        description: str | None,
        sample: bytes = b"",
    ) -> NewVersion:
        """Judge an uploaded file; make it the next version of the caller's model of that name.

        It is due to be compiled then. ``sample`` is CSV: rows on which both engines must be equal
        as well.

        Raises
        ------
        InvalidInputError : the name or the description will not do, or the sample does not fit
        PayloadTooLargeError : the caller would store more than one user may
        ModelRejectedError : the file was refused; nothing is left of it
        """
        check_name(name)
        check_description(description)
        self._check_quota(caller, incoming.bytes)
        passport = judge(
            incoming.path,
            max_features=self._settings.max_features,
            sample=sample,
            allowed=self._allowed,
            memory_bytes=self._settings.check_memory_bytes,
        )
        with self._store.exclusive():
            _refuse_quarantined(passport.sha256)
            self._check_quota(caller, incoming.bytes)  # others came in meanwhile
            incoming.keep()
            model_id, version = self._insert(caller, name, description, passport, sample)
        self.forget()
        return NewVersion(model_id, name, version, passport)

    def resolve(self, caller: Identity, reference: str) -> ResolvedVersion:
        """Find the version that ``id``, ``name``, ``id@3`` or ``name@production`` names.

        Another owner's private model is not found, as one that does not exist. What was found is
        remembered for less than 2 s; what was not found is not.

        Raises
        ------
        ModelNotFoundError, ConflictError, ServiceUnavailableError : no version that may be used
        """
        key = (caller.user_id, caller.role, reference)
        resolved = self._resolved.get(key)
        if resolved is None:
            resolved = self._find(caller, reference)
            self._resolved.put(key, resolved)
        refuse_unless_ready(resolved.state, resolved.refusal)
        return resolved

    def check_not_deleted(self, version: ResolvedVersion) -> None:
        """Look whether a version that may have been remembered is still there.

        Raises
        ------
        ModelNotFoundError : it was deleted meanwhile
        """
        named = (ModelVersion.model_id == version.model_id, ModelVersion.version == version.version)
        # A connection of its own: the session may still see what was there when it began.
        with db.engine.connect() as connection:
            if connection.scalar(select(exists().where(*named))):
                return
        self.forget()
        raise ModelNotFoundError("the model was deleted")

    def forget(self) -> None:
        """Look into the database again; other workers follow within 2 s."""
        self._resolved.clear()

    def set_alias(
        self, caller: Identity, reference: str, alias: str, version: int
    ) -> tuple[ModelInfo, int | None]:
        """Let an alias name a version of the caller's model; tell which it named before.

        Raises
        ------
        InvalidInputError : the alias is no name, or stands for something else already
        ModelNotFoundError, PermissionDeniedError : no such model or version, or not the caller's
        ConflictError : the version is quarantined or rejected, or there are too many aliases
        """
        check_alias(alias)
        with write_transaction() as session:
            model = find_own_model(caller, reference)
            # The model's row makes two that set the same alias take turns.
            session.refresh(model, with_for_update=True)
            _check_usable(model.id, version, self._allowed)
            known = session.get(ModelAlias, (model.id, alias))
            before = known.version if known else None
            if known is None:
                _check_room_for_alias(model.id)
            session.merge(ModelAlias(model_id=model.id, alias=alias, version=version))
            info = describe(model)
        self.forget()
        return info, before

    def delete_alias(self, caller: Identity, reference: str, alias: str) -> tuple[ModelInfo, int]:
        """Take an alias from the caller's model; tell which version it named."""
        model = find_own_model(caller, reference)
        version = db.session.scalar(
            delete(ModelAlias)
            .where(ModelAlias.model_id == model.id, ModelAlias.alias == alias)
            .returning(ModelAlias.version)
        )
        db.session.commit()
        if version is None:
            raise ModelNotFoundError("the model has no such alias")
        self.forget()
        return describe(model), version

    def change(self, caller: Identity, reference: str, changes: Mapping[str, Any]) -> ModelInfo:
        """Rename, describe, share or unshare a model of the caller's, or choose its engine."""
        model = find_own_model(caller, reference)
        if "name" in changes:
            check_name(changes["name"])
        check_description(changes.get("description"))
        for attribute, value in changes.items():
            setattr(model, attribute, value)
        try:
            db.session.commit()
        except IntegrityError:
            db.session.rollback()
            raise ConflictError(
                f"you have a model named {changes.get('name')} already", {"field": "name"}
            ) from None
        self.forget()
        return describe(model)

    def delete(self, caller: Identity, reference: str) -> ModelInfo:
        """Delete a model of the caller's with all its versions, and the files nobody else has."""
        with self._store.exclusive():
            model = find_own_model(caller, reference)
            info = describe(model)
            digests = {version.digest for version in model.versions}
            db.session.delete(model)
            db.session.commit()
            self._delete_unused(digests)
        self.forget()
        return info

    def sweep(self) -> None:
        """Remove the files that no version names, and what broken uploads left behind.

        For a deleted account, and for a process that was killed between a row and its file.
        """
        self._store.sweep()
        with self._store.exclusive():
            self._delete_unused(self._store.digests())
        self.forget()

    def read_artifact(self, caller: Identity, reference: str) -> tuple[ResolvedVersion, bytes]:
        """Read the file of a version of the caller's own, as it was uploaded."""
        find_own_model(caller, reference.partition("@")[0])
        resolved = self._find(caller, reference)
        return resolved, self._store.read(resolved.digest)

    def _check_quota(self, caller: Identity, more_bytes: int) -> None:
        count, stored = db.session.execute(
            select(func.count(), func.coalesce(func.sum(ModelVersion.bytes), 0))
            .join_from(ModelVersion, RegisteredModel)
            .where(RegisteredModel.owner_id == caller.user_id)
        ).one()
        for used, limit, what in (
            (count + 1, self._settings.max_user_versions, "versions"),
            (int(stored) + more_bytes, self._settings.max_user_bytes, "bytes"),
        ):
            if used > limit:
                raise PayloadTooLargeError(
                    f"your models would be {used} {what}, and one user may store {limit}; delete"
                    " models that you no longer need",
                    {"used": used, "limit": limit},
                )

    def _delete_unused(self, digests: set[str]) -> None:
        used = set(db.session.scalars(select(ModelVersion.digest).distinct()))
        for digest in digests - used:
            self._store.delete(digest)

    def _insert(
        self,
        caller: Identity,
        name: str,
        description: str | None,
        passport: Passport,
        sample: bytes,
    ) -> tuple[str, int]:
        """Insert the version under the next number of its name, in one transaction."""
        with write_transaction() as session:
            model = session.scalar(
                select(RegisteredModel)
                .where(RegisteredModel.owner_id == caller.user_id, RegisteredModel.name == name)
                .with_for_update()
            )
            if model is None:
                # On PostgreSQL two first uploads of a name can meet here. The owner's row
                # makes the second one wait, and see the first.
                session.execute(select(User.id).where(User.id == caller.user_id).with_for_update())
                model = session.scalar(
                    select(RegisteredModel).where(
                        RegisteredModel.owner_id == caller.user_id, RegisteredModel.name == name
                    )
                ) or RegisteredModel(
                    id=new_id(), owner_id=caller.user_id, name=name, next_version=1
                )
                session.add(model)
                session.flush()
            version = session.scalar(
                update(RegisteredModel)
                .where(RegisteredModel.id == model.id)
                .values(next_version=RegisteredModel.next_version + 1, updated_at=utc_now())
                .returning(RegisteredModel.next_version - 1)
            )
            assert version is not None  # noqa: S101 - the row is locked by this transaction
            session.add(
                ModelVersion(
                    model_id=model.id,
                    version=version,
                    digest=passport.sha256,
                    bytes=passport.bytes,
                    state="ready",
                    judged_under=terms_of(passport),
                    passport=passport.to_dict(),
                    due=DueCompilation(sample=sample),
                )
            )
            model.latest_version = version
            if description is not None:
                model.description = description
            return model.id, version

    def _find(self, caller: Identity, reference: str) -> ResolvedVersion:
        base, _, wanted = reference.partition("@")
        model = find_model(caller, base)
        number: int | ScalarSelect[int] | None
        if wanted in {"", LATEST}:
            number = model.latest_version
        elif _NUMBER.fullmatch(wanted):
            number = int(wanted)
        else:
            number = (
                select(ModelAlias.version)
                .where(ModelAlias.model_id == model.id, ModelAlias.alias == wanted)
                .scalar_subquery()
            )
        version = db.session.scalar(
            select(ModelVersion).where(
                ModelVersion.model_id == model.id, ModelVersion.version == number
            )
        )
        if version is None:
            raise ModelNotFoundError("the model has no such version")
        passport = Passport.from_dict(version.passport)
        is_compiled = passport.compilation is not None and passport.compilation.engine == "onnx"
        may_be_used = self._settings.engine == model.engine == "auto"
        return ResolvedVersion(
            model.id,
            model.name,
            version.id,
            version.version,
            version.digest,
            state_of(version, self._allowed),
            version.refusal,
            "onnx" if is_compiled and may_be_used else "sklearn",
            passport,
        )


def _check_usable(model_id: str, number: int, allowed: Allowed) -> None:
    version = db.session.scalar(
        select(ModelVersion).where(
            ModelVersion.model_id == model_id, ModelVersion.version == number
        )
    )
    if version is None:
        raise ModelNotFoundError("the model has no such version")
    state = state_of(version, allowed)
    if state in ("quarantined", "rejected"):
        raise ConflictError(f"this version is {state}: no alias may name it")


def _check_room_for_alias(model_id: str) -> None:
    mine = ModelAlias.model_id == model_id
    if (db.session.scalar(select(func.count()).where(mine)) or 0) >= MOST_ALIASES:
        raise ConflictError(f"one model may have {MOST_ALIASES} aliases; delete those out of use")


def _refuse_quarantined(digest: str) -> None:
    strikes = db.session.scalar(
        select(ArtifactStrikes.strikes).where(ArtifactStrikes.digest == digest)
    )
    if is_quarantining(strikes):
        raise ModelRejectedError(
            "this file is quarantined: as a model it crashed or stalled workers;"
            " the operator of the service can release it",
            {"reason": "quarantined"},
        )
