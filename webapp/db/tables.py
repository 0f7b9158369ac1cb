"""What the database keeps: accounts, revoked tokens, registered models, counters."""

from datetime import UTC, datetime
from typing import Any, Final

import uuid_utils
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.extensions import Base

ROLES: Final = ("user", "admin")
MODEL_STATES: Final = ("ready", "quarantined")
EMAIL_CHARS: Final = 254  # RFC 5321 §4.5.3.1.3, without the angle brackets


def new_id() -> str:
    """Make an id that sorts by the time of its making (UUIDv7, RFC 9562 §5.7)."""
    return str(uuid_utils.uuid7())


def utc_now() -> datetime:
    """Read the clock as an aware time in UTC."""
    return datetime.now(UTC)


class UTCDateTime(TypeDecorator[datetime]):
    """An aware time, kept in UTC, because SQLite stores and returns times without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time without a zone and convert the others to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time needs a time zone before it is stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the stored time its zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _one_of(column: str, allowed: tuple[str, ...]) -> CheckConstraint:
    values = ", ".join(f"'{value}'" for value in allowed)
    return CheckConstraint(f"{column} IN ({values})", name=column)


class User(Base):
    """An account."""

    __tablename__ = "users"
    __table_args__ = (_one_of("role", ROLES),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(String(EMAIL_CHARS), unique=True)  # lower case
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16), default="user")
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utc_now)
    # Tokens issued before this are refused: one value instead of a row for each token.
    tokens_valid_after: Mapped[datetime | None] = mapped_column(UTCDateTime)


class RevokedToken(Base):
    """A token (by its jti) or a whole session (by its sid) that is refused until it expires."""

    __tablename__ = "revoked_tokens"

    jti: Mapped[str] = mapped_column(String(36), primary_key=True)
    # No foreign key: a revocation must not fail because its user was deleted meanwhile.
    user_id: Mapped[str] = mapped_column(String(36))
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)


class ApiKey(Base):
    """A long-lived key of a machine client; of the key itself only a hash is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utc_now)


class RegisteredModel(Base):
    """A model by its name, which is unique per owner."""

    __tablename__ = "registered_models"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(Text, default="")
    shared: Mapped[bool] = mapped_column(default=False)
    # "sklearn" keeps its versions from being served by what they were compiled to.
    engine: Mapped[str] = mapped_column(String(16), default="auto", server_default="auto")
    latest_version: Mapped[int | None]  # moves once a version is ready
    next_version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utc_now, onupdate=utc_now)

    owner: Mapped[User] = relationship()
    versions: Mapped[list["ModelVersion"]] = relationship(
        back_populates="model",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="ModelVersion.version",
    )


class ModelVersion(Base):
    """One uploaded artifact of a registered model, with the passport made at upload."""

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("model_id", "version"), _one_of("state", MODEL_STATES))

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    model_id: Mapped[str] = mapped_column(ForeignKey("registered_models.id", ondelete="CASCADE"))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64), index=True)  # SHA-256, hexadecimal
    bytes: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16), default="ready")
    passport: Mapped[dict[str, Any]] = mapped_column(JSON)  # Any: its shape is webapp.ml's affair
    # Policy and scikit-learn that it was last judged under, and why it was refused then.
    judged_under: Mapped[str] = mapped_column(String(64), default="", server_default="")
    refusal: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utc_now)

    model: Mapped[RegisteredModel] = relationship(back_populates="versions")
    due: Mapped["DueCompilation | None"] = relationship(
        back_populates="version", cascade="all, delete-orphan", passive_deletes=True
    )


class DueCompilation(Base):
    """A version that is to be compiled; kept until it is recorded what came of that."""

    __tablename__ = "due_compilations"

    version_id: Mapped[str] = mapped_column(
        ForeignKey("model_versions.id", ondelete="CASCADE"), primary_key=True
    )
    sample: Mapped[bytes] = mapped_column(LargeBinary)  # CSV of its owner's, or nothing
    attempts: Mapped[int] = mapped_column(default=0)  # how often it was begun

    version: Mapped[ModelVersion] = relationship(back_populates="due")


class ModelAlias(Base):
    """A name for one version of a model, which moves to another in one statement."""

    __tablename__ = "model_aliases"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model_id", "version"],
            ["model_versions.model_id", "model_versions.version"],
            ondelete="CASCADE",
        ),
    )

    model_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    alias: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int]


class ArtifactStrikes(Base):
    """How often an artifact killed or stalled a worker; also kept while no version has it."""

    __tablename__ = "artifact_strikes"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    strikes: Mapped[float] = mapped_column(Double)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utc_now, onupdate=utc_now)


class ThrottleCounter(Base):
    """How often something happened in its window; all workers count in the same row."""

    __tablename__ = "throttle_counters"

    key: Mapped[str] = mapped_column(String(160), primary_key=True)
    count: Mapped[int]
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)
