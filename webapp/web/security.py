"""Who calls: the token is checked before anything else of a request is looked at."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from flask import Flask, Response, current_app, g, request
from flask_jwt_extended import JWTManager, get_jwt, verify_jwt_in_request

from webapp.errors import PermissionDeniedError
from webapp.remembered import Remembered
from webapp.services import api_keys, tokens
from webapp.services.tokens import Identity
from webapp.web.errors import failure
from webapp.web.hooks import current_event

P = ParamSpec("P")
R = TypeVar("R")

_CHALLENGE = 'Bearer realm="pellucid"'
_VERIFIED: Final = "pellucid-verified-tokens"
_VERIFIED_SECONDS: Final = 60


def init_app(app: Flask) -> None:
    """Set up the tokens, with every one of the library's failures in our form.

    Its callbacks bypass Flask's error handlers, and some of them would answer 422.
    """
    jwt = JWTManager(app)
    app.extensions[_VERIFIED] = Remembered(_VERIFIED_SECONDS)
    jwt.unauthorized_loader(lambda reason: _unauthorized("a bearer token is needed"))
    jwt.invalid_token_loader(lambda reason: _unauthorized(f"the token is invalid: {reason}"))
    jwt.expired_token_loader(lambda header, claims: _unauthorized("the token has expired"))
    jwt.revoked_token_loader(lambda header, claims: _unauthorized("the token was revoked"))
    jwt.needs_fresh_token_loader(lambda header, claims: _unauthorized("a fresh token is needed"))
    jwt.user_lookup_error_loader(lambda header, claims: _unauthorized("there is no such user"))
    jwt.token_verification_failed_loader(
        lambda header, claims: _unauthorized("the token's claims are wrong")
    )


def requires_user(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view be called only with a valid access token or API key."""
    return _guarded(view)


def requires_session(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view be called only with a valid access token: no API key will do."""
    return _guarded(view, keys=False)


def requires_scope(scope: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a view be called only with a valid access token, or an API key that has the scope."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        return _guarded(view, scope=scope)

    return decorate


def requires_admin(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view be called only with an admin's access token, or an API key for it."""
    return _guarded(view, scope="admin")


def requires_refresh_token(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view be called only with a valid refresh token."""
    return _guarded(view, refresh=True, keys=False)


def caller() -> Identity:
    """Get who calls; only in a guarded view."""
    identity: Identity = g.identity
    return identity


def claims() -> dict[str, Any]:
    """Get the claims of the token; only in a guarded view."""
    held: dict[str, Any] = g.claims
    return dict(held)


def _guarded(
    view: Callable[P, R], *, scope: str | None = None, refresh: bool = False, keys: bool = True
) -> Callable[P, R]:
    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        g.identity = identity = _identify(refresh)
        event = current_event()
        event.identify(identity.user_id, identity.role)
        if identity.client_id is not None:
            event.annotate(client_id=identity.client_id)
            if not keys:
                raise PermissionDeniedError("an API key will not do here: log in")
            if scope is not None and scope not in identity.scopes:
                raise PermissionDeniedError(f"this API key lacks the scope {scope}")
        if scope == "admin" and identity.role != "admin":
            raise PermissionDeniedError("this is for admins only")
        return view(*args, **kwargs)

    return guarded


def _identify(refresh: bool) -> Identity:
    header = request.environ.get("HTTP_AUTHORIZATION", "")
    scheme, _, credentials = header.partition(" ")
    if scheme == "Bearer" and credentials.startswith(api_keys.PREFIX):
        return api_keys.identify(credentials)
    g.claims = claims = _verify(header, refresh)
    return tokens.identify(claims)


def _verify(header: str, refresh: bool) -> dict[str, Any]:
    """Get the claims of a token whose signature and time are good.

    The library takes 200 µs to see that, and a client sends the same token again and again.
    Whether it was revoked is another question, asked each time.
    """
    key = (header, refresh)
    verified: Remembered[Any, dict[str, Any]] = current_app.extensions[_VERIFIED]
    known = verified.get(key)
    if known is None or known.get("exp", 0) + tokens.LEEWAY_SECONDS <= time.time():
        verify_jwt_in_request(refresh=refresh)
        known = dict(get_jwt())
        verified.put(key, known)
    return known


def _unauthorized(message: str) -> Response:
    response = failure(401, "AuthenticationError", message)
    response.headers["WWW-Authenticate"] = _CHALLENGE
    return response
