"""Models that kill or stall workers: strikes, quarantine, release."""

import logging
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from webapp.db.engine import write_transaction
from webapp.db.tables import ArtifactStrikes, ModelVersion, RegisteredModel
from webapp.errors import ConflictError, ModelNotFoundError
from webapp.events import schema
from webapp.extensions import db
from webapp.ml.attempts import Death
from webapp.ml.store import ModelStore

logger = logging.getLogger(__name__)

MOST_STRIKES: Final = 2
# Thirds do not add up exactly.
_ROUNDING: Final = 0.01
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_VERSION: Final = re.compile(r"([0-9a-f-]{36})@([0-9]{1,9})")


@dataclass(frozen=True)
class StruckVersion:
    """A version whose artifact has strikes."""

    model_id: str
    model_name: str
    version: int
    state: str
    digest: str
    strikes: float
    struck_at: datetime


class Quarantine:
    """Counts strikes by digest, so that another upload of the same bytes changes nothing."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def record(self, death: Death) -> None:
        """Give the suspects of a worker's death a strike, and quarantine whoever has two.

        One suspect has the strike whole. Several share it: an innocent model should not be
        quarantined for having been asked at the wrong moment twice. If the strike cannot be
        recorded the log says so: the worker that does this has others to serve.
        """
        try:
            struck, quarantined = self._strike(death)
        except (SQLAlchemyError, OSError):
            logger.exception(
                "Strike not recorded", extra={"details": {"suspects": sorted(death.suspects)}}
            )
            return
        for version in struck:
            _log(version, death, version.digest in quarantined)

    def _strike(self, death: Death) -> tuple[list[StruckVersion], set[str]]:
        with self._store.exclusive(), write_transaction() as session:
            quarantined = set()
            for digest in sorted(death.suspects):
                row = session.get(ArtifactStrikes, digest, with_for_update=True)
                if row is None:
                    row = ArtifactStrikes(digest=digest, strikes=0.0)
                    session.add(row)
                before = is_quarantining(row.strikes)
                row.strikes += 1 / len(death.suspects)
                if is_quarantining(row.strikes) and not before:
                    quarantined.add(digest)
            session.execute(
                update(ModelVersion)
                .where(ModelVersion.digest.in_(quarantined))
                .values(state="quarantined")
            )
            session.flush()
            return _find(death.suspects), quarantined

    def list_struck(self) -> list[StruckVersion]:
        """List the versions that have strikes, the latest struck first."""
        return _find()

    def release(self, reference: str) -> list[StruckVersion]:
        """Forget the strikes of an artifact, by its SHA-256 or as ``ID@VERSION``, and serve it.

        Raises
        ------
        ModelNotFoundError : no version is meant by that
        ConflictError : it has no strikes
        """
        digest = _read_reference(reference)
        with self._store.exclusive(), write_transaction() as session:
            released = _find({digest})
            row = session.get(ArtifactStrikes, digest, with_for_update=True)
            if row is None:
                raise ConflictError("it is not quarantined and has no strikes")
            session.delete(row)
            session.execute(
                update(ModelVersion)
                .where(ModelVersion.digest == digest, ModelVersion.state == "quarantined")
                .values(state="ready")
            )
        return released


def is_quarantining(strikes: float | None) -> bool:
    """Tell whether so many strikes are enough."""
    return strikes is not None and strikes >= MOST_STRIKES - _ROUNDING


def _read_reference(reference: str) -> str:
    if _DIGEST.fullmatch(reference):
        return reference
    named = _VERSION.fullmatch(reference)
    digest = named and db.session.scalar(
        select(ModelVersion.digest).where(
            ModelVersion.model_id == named[1], ModelVersion.version == int(named[2])
        )
    )
    if not digest:
        raise ModelNotFoundError(
            "there is no such version; name it by its SHA-256 or as ID@VERSION"
        )
    return digest


def _find(digests: set[str] | frozenset[str] | None = None) -> list[StruckVersion]:
    struck = (
        select(
            RegisteredModel.id,
            RegisteredModel.name,
            ModelVersion.version,
            ModelVersion.state,
            ModelVersion.digest,
            ArtifactStrikes.strikes,
            ArtifactStrikes.updated_at,
        )
        .join_from(ModelVersion, RegisteredModel)
        .join(ArtifactStrikes, ArtifactStrikes.digest == ModelVersion.digest)
        .order_by(ArtifactStrikes.updated_at.desc(), RegisteredModel.id, ModelVersion.version)
    )
    if digests is not None:
        struck = struck.where(ModelVersion.digest.in_(digests))
    return [StruckVersion(*row) for row in db.session.execute(struck)]


def _log(version: StruckVersion, death: Death, is_new: bool) -> None:
    facts = {
        "model_id": version.model_id,
        "model_name": version.model_name,
        "model_version": version.version,
        "digest": version.digest,
        "reason": f"a worker {death.reason}",
        "strikes": round(version.strikes, 2),
        "details": {"worker_pid": death.pid, "suspects": len(death.suspects)},
    }
    logger.warning("Model struck", extra={"event_type": schema.MODEL_STRUCK, **facts})
    if is_new:
        logger.error("Model quarantined", extra={"event_type": schema.MODEL_QUARANTINED, **facts})
