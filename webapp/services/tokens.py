"""Tokens: issue them, revoke them, and tell whose they are."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flask import current_app
from flask_jwt_extended import create_access_token, create_refresh_token
from sqlalchemy import exists, insert, select
from sqlalchemy.exc import IntegrityError

from webapp.db.engine import delete_expired
from webapp.db.tables import RevokedToken, User, new_id, utc_now
from webapp.errors import AuthenticationError
from webapp.extensions import db
from webapp.remembered import Remembered
from webapp.settings import Settings

# Any: a JWT's claims are JSON.
Claims = Mapping[str, Any]

SCOPES: Final = frozenset({"predict", "models", "admin"})
ISSUER: Final = "pellucid"
LEEWAY_SECONDS: Final = 30
# Besides those that the library demands: without ``exp`` it takes a token for ever.
REQUIRED_CLAIMS: Final = ("exp", "iat", "jti", "sid", "sub")
# What is promised is 2 s from the change; reading the database and answering take their part.
IDENTITY_CACHE_SECONDS: Final = 1.5
# A clock that is set back by a day must not find a revocation gone that it needs again.
REVOCATION_KEPT: Final = timedelta(days=2)


@dataclass(frozen=True)
class Identity:
    """Who a token or key belongs to, as the database says now, and what it may do.

    Through a key without the scope ``admin``, an admin has the role ``user``.
    """

    user_id: str
    email: str
    role: str
    scopes: frozenset[str] = SCOPES
    client_id: str | None = None  # of the API key, if one was sent


@dataclass(frozen=True)
class TokenPair:
    """What a client gets when it logs in or refreshes."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int  # seconds until the access token expires
    token_type: str = "Bearer"  # noqa: S105 (RFC 6750's name, not a secret)

    def as_dict(self) -> dict[str, str | int]:
        """Convert to the body of the answer."""
        return asdict(self)


_identities: Remembered[str, Identity | str] = Remembered(IDENTITY_CACHE_SECONDS)


def jwt_config(settings: Settings) -> dict[str, Any]:
    """Choose flask-jwt-extended's configuration; the values' types are the library's."""
    return {
        "JWT_SECRET_KEY": settings.jwt_secret_key,
        "JWT_ALGORITHM": "HS256",
        "JWT_DECODE_ALGORITHMS": ["HS256"],
        "JWT_TOKEN_LOCATION": ["headers"],
        "JWT_ACCESS_TOKEN_EXPIRES": timedelta(seconds=settings.access_token_seconds),
        "JWT_REFRESH_TOKEN_EXPIRES": timedelta(seconds=settings.refresh_token_seconds),
        "JWT_ENCODE_ISSUER": ISSUER,
        "JWT_DECODE_ISSUER": ISSUER,
        "JWT_ENCODE_AUDIENCE": ISSUER,
        "JWT_DECODE_AUDIENCE": ISSUER,
        "JWT_DECODE_LEEWAY": LEEWAY_SECONDS,
        "JWT_ENCODE_NBF": False,
        # Only the admin page looks for cookies; its forms carry what proves that they are ours.
        "JWT_CSRF_CHECK_FORM": True,
        "JWT_CSRF_IN_COOKIES": False,
    }


def issue_pair(user: User, sid: str | None = None) -> TokenPair:
    """Issue an access and a refresh token, in a new session or in the one that is named."""
    return _issue(user.id, sid or new_id())


def refresh(claims: Claims) -> TokenPair:
    """Exchange a refresh token, which is used up by that, for a new pair in its session."""
    if claims.get("type") != "refresh":
        raise AuthenticationError("a refresh token is needed here")
    identity = _look_up(claims)
    if isinstance(identity, str):
        raise AuthenticationError(identity)
    # The primary key decides between two requests that come with one token at the same time.
    if not _insert(claims["jti"], identity.user_id, _expiry(claims)):
        raise AuthenticationError("the refresh token was used already")
    return _issue(identity.user_id, claims["sid"])


def issue_page_session(user: User) -> TokenPair:
    """Issue the tokens of a browser's session, all with one word for its forms (``csrf``).

    A form that was open before a renewal is good after it.
    """
    return _issue(user.id, new_id(), csrf=secrets.token_urlsafe())


def renew_page_access(claims: Claims) -> str:
    """Issue another access token in the session of a refresh token, which stays good.

    It is kept where no script can read it, and two pages that are open may need it at once.
    """
    return _issue(claims["sub"], claims["sid"], csrf=claims["csrf"]).access_token


def revoke(jti: str, user_id: str, expires_at: datetime) -> None:
    """Refuse one token from now until it expires; refusing it twice is no error."""
    _insert(jti, user_id, expires_at)


def revoke_session(claims: Claims) -> None:
    """Refuse every token of the session, including those that a refresh may be issuing now."""
    last_refresh = utc_now() + current_app.config["JWT_REFRESH_TOKEN_EXPIRES"]
    revoke(claims["sid"], claims["sub"], last_refresh)


def identify(claims: Claims) -> Identity:
    """Tell whose token this is, from a memory of less than 2 s or from the database.

    Raises
    ------
    AuthenticationError : incomplete, revoked, from before the sessions ended, or without a user
    """
    if not all(claims.get(name) for name in REQUIRED_CLAIMS):
        raise AuthenticationError("the token lacks a claim")
    key = str(claims["jti"])
    known = _identities.get(key)
    if known is None:
        known = _look_up(claims)
        _identities.put(key, known)
    if isinstance(known, str):
        raise AuthenticationError(known)
    return known


def forget_identities() -> None:
    """Look into the database again for the next token; other processes follow within 2 s."""
    _identities.clear()


def _issue(user_id: str, sid: str, **more: str) -> TokenPair:
    # With the library's whole seconds, a token issued right after a change of password could
    # not be told from one issued right before it (RFC 7519 §2: NumericDate may have a fraction).
    claims = {"sid": sid, "iat": time.time(), **more}
    return TokenPair(
        access_token=create_access_token(user_id, additional_claims=claims),
        refresh_token=create_refresh_token(user_id, additional_claims=claims),
        expires_in=int(current_app.config["JWT_ACCESS_TOKEN_EXPIRES"].total_seconds()),
    )


def _look_up(claims: Claims) -> Identity | str:
    """Find the identity, or say why there is none."""
    jti, sid, user_id, issued_at = (claims[name] for name in ("jti", "sid", "sub", "iat"))
    query = select(
        User.email,
        User.role,
        User.disabled,
        User.tokens_valid_after,
        exists().where(RevokedToken.jti.in_([jti, sid])).label("revoked"),
    ).where(User.id == user_id)
    # Not the request's session: its connection would stay taken through a long prediction.
    with db.engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        return "the token's user does not exist any more"
    if row.disabled:
        return "the account is disabled"
    if row.revoked:
        return "the token was revoked"
    if row.tokens_valid_after and issued_at < row.tokens_valid_after.timestamp():
        return "the account's sessions were ended: sign in again"
    return Identity(user_id, row.email, row.role)


def _expiry(claims: Claims) -> datetime:
    return datetime.fromtimestamp(claims["exp"], UTC)


def _insert(jti: str, user_id: str, expires_at: datetime) -> bool:
    """Insert a revocation; False if it was there. Drop the ones that nobody needs any more."""
    row = insert(RevokedToken).values(jti=jti, user_id=user_id, expires_at=expires_at)
    try:
        with db.engine.begin() as connection:
            connection.execute(row)
            delete_expired(connection, RevokedToken, utc_now() - REVOCATION_KEPT)
    except IntegrityError:
        return False
    forget_identities()
    return True
