"""Accounts and tokens: ``/api/v1/auth``."""

from dataclasses import asdict
from typing import Any

from flask import Blueprint

from webapp.db.tables import User
from webapp.errors import AppError, PermissionDeniedError
from webapp.events.actions import record_action
from webapp.logstore import queries
from webapp.parts import parts
from webapp.services import accounts, api_keys, tokens
from webapp.web.body import read_json, read_query
from webapp.web.docs import documented
from webapp.web.hooks import current_event
from webapp.web.schemas import (
    Account,
    ApiKey,
    Credentials,
    NewApiKey,
    Page,
    PageQuery,
    Registered,
    ShownApiKey,
    Success,
    TokenPair,
)
from webapp.web.security import (
    caller,
    claims,
    requires_refresh_token,
    requires_session,
    requires_user,
)
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
        record_action(
            "register",
            outcome="failure",
            reason=error.message,
            email=body.email,
            has_account=accounts.has_account(body.email),
        )
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
@requires_session
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


@blueprint.post("/api-keys")
@documented("auth", Success[ShownApiKey], status=201, json=NewApiKey, failures=(403,))
@requires_session
def create_api_key() -> tuple[dict[str, Any], int]:
    """Make a key for a machine client; only this answer shows it."""
    body = read_json(NewApiKey)
    details: dict[str, Any] = {"scopes": body.scopes}
    try:
        secret, created = api_keys.create(caller(), body.name, body.scopes, body.expires_at)
    except AppError as error:
        record_action("create_api_key", outcome="failure", reason=error.message, details=details)
        raise
    record_action("create_api_key", details={"client_id": created.id, **details})
    return {"success": True, "data": {**asdict(created), "key": secret, "last_used_at": None}}, 201


@blueprint.get("/api-keys")
@documented("auth", Success[Page[ApiKey]], query=PageQuery)
@requires_session
def list_api_keys() -> dict[str, Any]:
    """List your keys, newest first; when each was last used is read from the log."""
    query = read_query(PageQuery)
    keys, total = api_keys.list_keys(caller(), query.page, query.per_page)
    used = queries.last_used_clients(parts().reader, caller().user_id)
    items = [{**asdict(key), "last_used_at": used.get(key.id)} for key in keys]
    return {"success": True, "data": {"items": items, **query.model_dump(), "total": total}}


@blueprint.delete("/api-keys/<key_id>")
@documented("auth", Success[None], failures=(404,))
@requires_session
def revoke_api_key(key_id: str) -> dict[str, Any]:
    """Revoke a key of yours: it stops working within 2 s."""
    try:
        api_keys.revoke(caller(), key_id)
    except AppError as error:
        record_action("revoke_api_key", outcome="failure", reason=error.message)
        raise
    record_action("revoke_api_key", details={"client_id": key_id})
    return {"success": True, "data": None}


def _account(user: User) -> dict[str, str]:
    return {"id": user.id, "email": user.email, "role": user.role}
