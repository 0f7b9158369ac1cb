"""Whether a version may be served: judged by this program, and not refused or quarantined.

What was accepted by an older policy, or under another scikit-learn, is judged again first. So is
what came of a version of scikit-learn that the operator allowed, or did not, and now otherwise.
"""

import dataclasses
import logging
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import SQLAlchemyError

from webapp.db.engine import write_transaction
from webapp.db.tables import DueCompilation, ModelVersion
from webapp.errors import (
    AppError,
    ConflictError,
    ModelNotFoundError,
    ModelRejectedError,
    ServiceUnavailableError,
)
from webapp.extensions import db
from webapp.ml.loading import TERMS, Allowed, judge
from webapp.ml.loading.allowed import minor
from webapp.ml.passport import Passport
from webapp.ml.store import ModelStore
from webapp.settings import Settings

logger = logging.getLogger(__name__)

State = Literal["ready", "quarantined", "rejected", "revalidate"]
_ALLOWED, _REFUSED = "allowed", "refused"
_REFERENCE: Final = re.compile(r"([0-9a-f-]{36})(?:@([0-9]{1,9}))?")


@dataclass(frozen=True)
class Judged:
    """What became of a version that was judged again; the error says why it is not served."""

    model_id: str
    model_name: str
    version: int
    error: AppError | None

    @property
    def outcome(self) -> Literal["accepted", "rejected", "not judged"]:
        """Whether it is served, is not, or remains to be judged."""
        if self.error is None:
            return "accepted"
        return "rejected" if isinstance(self.error, ModelRejectedError) else "not judged"


class Acceptance:
    """Judges stored files again; by digest, because equal bytes are accepted or not together."""

    def __init__(self, settings: Settings, store: ModelStore) -> None:
        self._settings = settings
        self._store = store
        self._allowed = Allowed.by(settings)

    def find_stale(self) -> list[str]:
        """List the digests of what was last judged under other terms than today's."""
        stale = select(ModelVersion.digest).where(self._is_stale())
        return list(db.session.scalars(stale.distinct().order_by(ModelVersion.digest)))

    def warn_of_stale(self) -> None:
        """Say that versions wait, and for what: at a start, nobody may have asked for them yet."""
        try:
            count = db.session.scalar(
                select(func.count()).where(self._is_stale(), ModelVersion.state != "quarantined")
            )
        except SQLAlchemyError:  # that may pass, and is no reason for a worker not to start
            logger.exception("Looking for models that wait to be checked again failed")
            return
        if count:
            logger.warning(
                "Models wait to be checked again: run `flask models revalidate`",
                extra={"details": {"versions": count}},
            )

    def find(self, reference: str | None = None) -> list[str]:
        """List the digests of all versions, or of what ``ID`` or ``ID@VERSION`` names.

        Raises
        ------
        ModelNotFoundError : it names nothing
        """
        wanted = select(ModelVersion.digest).distinct().order_by(ModelVersion.digest)
        if reference is None:
            return list(db.session.scalars(wanted))
        named = _REFERENCE.fullmatch(reference)
        if named:
            wanted = wanted.where(ModelVersion.model_id == named[1])
        if named and named[2]:
            wanted = wanted.where(ModelVersion.version == int(named[2]))
        digests = list(db.session.scalars(wanted)) if named else []
        if not digests:
            raise ModelNotFoundError("there is no such model or version; name it ID or ID@VERSION")
        return digests

    def judge_again(self, digest: str) -> list[Judged]:
        """Judge a file as an upload is, and record it for every version that has these bytes."""
        verdict: Passport | ModelRejectedError
        try:
            verdict = self._judge(digest)
        except ModelRejectedError as error:
            verdict = error
        except AppError as error:  # whether it would be accepted is not known
            return [_tell(version, error) for version in _with_bytes(digest)]
        with self._store.exclusive(), write_transaction():
            versions = _with_bytes(digest, lock=True)
            for version in versions:
                _record(version, verdict)
            refusal = verdict if isinstance(verdict, ModelRejectedError) else None
            return [_tell(version, refusal) for version in versions]

    def _is_stale(self) -> ColumnElement[bool]:
        known = db.session.scalars(select(ModelVersion.judged_under).distinct())
        others = [terms for terms in known if not _hold(terms, self._allowed)]
        return ModelVersion.judged_under.in_(others)

    def _judge(self, digest: str) -> Passport:
        self._store.read(digest)  # or it is missing, or not what was uploaded
        return judge(
            self._store.path(digest),
            max_features=self._settings.max_features,
            allowed=self._allowed,
            memory_bytes=self._settings.check_memory_bytes,
        )


def terms_of(verdict: Passport | ModelRejectedError) -> str:
    """Write down what a verdict depends on: this program, and perhaps an allowance of a version."""
    word, saved_with = _ALLOWED, ""
    if isinstance(verdict, Passport):
        if minor(verdict.sklearn_version) != minor(verdict.sklearn_version_here):
            saved_with = verdict.sklearn_version
    elif verdict.details["reason"] == "wrong_sklearn_version":
        word, saved_with = _REFUSED, verdict.details["sklearn_version"]
    return f"{TERMS}, {word} {minor(saved_with)}" if saved_with else TERMS


def _hold(terms: str, allowed: Allowed) -> bool:
    """Tell whether a verdict under these terms would be the same today."""
    if terms == TERMS:
        return True
    program, _, allowance = terms.rpartition(", ")
    word, _, version = allowance.partition(" ")
    return program == TERMS and (word == _ALLOWED) == (version in allowed.sklearn_versions)


def state_of(version: ModelVersion, allowed: Allowed) -> State:
    """Tell whether a version is served, and if not, what it waits for."""
    if version.state == "quarantined":
        return "quarantined"
    if not _hold(version.judged_under, allowed):
        return "revalidate"
    return "rejected" if version.refusal else "ready"


def refuse_unless_ready(state: State, refusal: dict[str, Any] | None) -> None:
    """Let only a version pass that may be served.

    Raises
    ------
    ConflictError : it is quarantined, or was refused when it was judged again
    ServiceUnavailableError : it is to be judged again
    """
    if state == "quarantined":
        raise ConflictError("this version is quarantined: it crashed or stalled a worker")
    if state == "revalidate":
        raise ServiceUnavailableError(
            "this version was accepted under other rules and waits to be checked again; the"
            " operator of the service does that with `flask models revalidate`"
        )
    if refusal:
        raise no_longer_accepted(refusal["message"], refusal["reason"])


def no_longer_accepted(message: str, reason: str) -> ConflictError:
    """Make the error of a version that was accepted, and would not be today."""
    return ConflictError(f"this version is not accepted any more: {message}", {"reason": reason})


def _with_bytes(digest: str, *, lock: bool = False) -> list[ModelVersion]:
    mine = select(ModelVersion).where(ModelVersion.digest == digest)
    mine = mine.order_by(ModelVersion.model_id, ModelVersion.version)
    return list(db.session.scalars(mine.with_for_update() if lock else mine))


def _tell(version: ModelVersion, error: AppError | None) -> Judged:
    return Judged(version.model_id, version.model.name, version.version, error)


def _record(version: ModelVersion, verdict: Passport | ModelRejectedError) -> None:
    version.judged_under = terms_of(verdict)
    if isinstance(verdict, ModelRejectedError):
        version.refusal = {"reason": verdict.details["reason"], "message": verdict.message}
        return
    version.refusal = None
    before = Passport.from_dict(version.passport)
    compilation = before.compilation
    if before.sklearn_version_here != verdict.sklearn_version_here:
        compilation = None  # it was compared with the other scikit-learn
        version.due = version.due or DueCompilation(sample=b"")
    version.passport = dataclasses.replace(verdict, compilation=compilation).to_dict()
