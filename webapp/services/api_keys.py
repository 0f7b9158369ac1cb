"""API keys: long-lived secrets of machine clients, each for some of what its owner may do."""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from flask import current_app
from sqlalchemy import delete, func, select

from webapp.db.tables import ApiKey, User, utc_now
from webapp.errors import (
    ApiKeyNotFoundError,
    AuthenticationError,
    ConflictError,
    InvalidInputError,
    PermissionDeniedError,
)
from webapp.extensions import db, read_page
from webapp.remembered import Remembered
from webapp.services.tokens import IDENTITY_CACHE_SECONDS, Identity

PREFIX: Final = "pel_"
MOST_KEYS: Final = 1000
_SECRET_BYTES: Final = 32
_PURPOSE: Final = b"pellucid api key\0"


@dataclass(frozen=True)
class KeyInfo:
    """A key as its owner sees it, without the secret."""

    id: str
    name: str
    scopes: list[str]
    expires_at: datetime | None
    created_at: datetime


_identities: Final[Remembered[str, Identity]] = Remembered(IDENTITY_CACHE_SECONDS)


def create(
    caller: Identity, name: str, scopes: Sequence[str], expires_at: datetime | None
) -> tuple[str, KeyInfo]:
    """Make a key; the secret that is returned is kept nowhere.

    Raises
    ------
    PermissionDeniedError : the scope admin, and the caller is no admin
    InvalidInputError : the key would have expired already
    ConflictError : the caller has as many as one account may have
    """
    if "admin" in scopes and caller.role != "admin":
        raise PermissionDeniedError("only admins may have keys with the scope admin")
    if expires_at is not None and expires_at <= utc_now():
        raise InvalidInputError("expires_at must be in the future", {"field": "expires_at"})
    mine = ApiKey.user_id == caller.user_id
    if (db.session.scalar(select(func.count()).select_from(ApiKey).where(mine)) or 0) >= MOST_KEYS:
        raise ConflictError(f"one account may have {MOST_KEYS} API keys; revoke those out of use")
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    row = ApiKey(
        user_id=caller.user_id,
        name=name,
        hash=_hash(secret),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    db.session.add(row)
    db.session.commit()
    return secret, _info(row)


def list_keys(caller: Identity, page: int, per_page: int) -> tuple[list[KeyInfo], int]:
    """List the caller's keys, newest first, and count them all."""
    mine = select(ApiKey).where(ApiKey.user_id == caller.user_id)
    newest_first = mine.order_by(ApiKey.created_at.desc(), ApiKey.id.desc())
    rows, total = read_page(newest_first, page, per_page)
    return [_info(row) for row in rows], total


def revoke(caller: Identity, key_id: str) -> None:
    """Delete a key of the caller's; other processes follow within 2 s."""
    deleted = db.session.scalar(
        delete(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.user_id == caller.user_id)
        .returning(ApiKey.id)
    )
    db.session.commit()
    if deleted is None:
        raise ApiKeyNotFoundError("you have no such API key")
    forget()


def forget() -> None:
    """Look into the database again for the next key; other processes follow within 2 s."""
    _identities.clear()


def identify(secret: str) -> Identity:
    """Tell whose key this is, from a memory of less than 2 s or from the database.

    A key that is refused is not remembered: made-up ones must not push out the good ones.

    Raises
    ------
    AuthenticationError : unknown, revoked or expired, or its owner is disabled
    """
    hashed = _hash(secret)
    known = _identities.get(hashed)
    if known is None:
        known = _look_up(hashed)
        _identities.put(hashed, known)
    return known


def _hash(secret: str) -> str:
    # Not argon2, as for passwords: nobody can try through 256 random bits, however fast the hash,
    # and a slow one would be paid on every request. The server's secret makes a stolen table
    # useless even to whoever would put a key of their own into it.
    server_secret = current_app.config["JWT_SECRET_KEY"].encode()
    return hmac.digest(server_secret, _PURPOSE + secret.encode(), "sha256").hex()


def _look_up(hashed: str) -> Identity:
    query = (
        select(
            ApiKey.id, ApiKey.user_id, ApiKey.scopes, ApiKey.expires_at, User.email, User.role,
            User.disabled,
        )
        .join(User, User.id == ApiKey.user_id)
        .where(ApiKey.hash == hashed)
    )  # fmt: skip
    # Not the request's session: its connection would stay taken through a long prediction.
    with db.engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise AuthenticationError("the API key is unknown or was revoked")
    if row.expires_at is not None and row.expires_at <= utc_now():
        raise AuthenticationError("the API key has expired")
    if row.disabled:
        raise AuthenticationError("the account is disabled")
    scopes = frozenset(row.scopes)
    role = row.role if "admin" in scopes else "user"
    return Identity(row.user_id, row.email, role, scopes, row.id)


def _info(row: ApiKey) -> KeyInfo:
    return KeyInfo(row.id, row.name, row.scopes, row.expires_at, row.created_at)
