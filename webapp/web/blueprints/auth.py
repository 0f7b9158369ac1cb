"""Accounts and tokens: ``/api/v1/auth``."""

from typing import Any

from flask import Blueprint

from webapp.db.tables import User
from webapp.errors import AppError, PermissionDeniedError
from webapp.events.actions import record_action
from webapp.parts import parts
from webapp.services import accounts, tokens
from webapp.web.body import read_json
from webapp.web.docs import documented
from webapp.web.hooks import current_event
from webapp.web.schemas import Account, Credentials, Registered, Success, TokenPair
from webapp.web.security import caller, claims, requires_refresh_token, requires_user
from webapp.web.signin import sign_in

blueprint = Blueprint("auth", __name__, url_prefix="/api/v1/auth")


@blueprint.post("/register")
@documented(
    "auth", Success[Registered], status=201, json=Credentials, failures=(403, 409), public=True
)
def register() -> tuple[dict[str, Any], int]:
    """Open an account and get its first tokens."""
    body = read_json(Credentials)
    try:
        if parts().settings.registration == "closed":
            raise PermissionDeniedError("registration is closed; ask an admin for an account")
        user = accounts.register(body.email, body.password)
    except AppError as error:
        record_action("register", outcome="failure", reason=error.message, email=body.email)
        raise
    current_event().identify(user.id, user.role)
    record_action("register", email=user.email)
    data = {**tokens.issue_pair(user).as_dict(), "user": _account(user)}
    return {"success": True, "data": data}, 201


@blueprint.post("/login")
@documented("auth", Success[TokenPair], json=Credentials, failures=(401, 429), public=True)
def login() -> dict[str, Any]:
    """Exchange e-mail address and password for an access and a refresh token."""
    body = read_json(Credentials)
    user = sign_in(body.email, body.password)
    return {"success": True, "data": tokens.issue_pair(user).as_dict()}


@blueprint.post("/refresh")
@documented("auth", Success[TokenPair])
@requires_refresh_token
def refresh() -> dict[str, Any]:
    """Exchange a refresh token, which is used up by that, for a new pair."""
    pair = tokens.refresh(claims())
    record_action("refresh_token")
    return {"success": True, "data": pair.as_dict()}


@blueprint.post("/logout")
@documented("auth", Success[None])
@requires_user
def logout() -> dict[str, Any]:
    """End the session: its access and refresh tokens stop working within 2 s."""
    tokens.revoke_session(claims())
    record_action("logout")
    return {"success": True, "data": None}


@blueprint.get("/me")
@documented("auth", Success[Account])
@requires_user
def me() -> dict[str, Any]:
    """Tell whose token this is."""
    identity = caller()
    data = {"id": identity.user_id, "email": identity.email, "role": identity.role}
    return {"success": True, "data": data}


def _account(user: User) -> dict[str, str]:
    return {"id": user.id, "email": user.email, "role": user.role}
