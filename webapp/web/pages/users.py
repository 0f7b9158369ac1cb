"""Users: who they are, what they did; and the role and state of their accounts."""

from collections.abc import Callable
from typing import Any

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from webapp.db.tables import ROLES, User
from webapp.errors import AppError, InvalidInputError, UserNotFoundError
from webapp.events.actions import record_action
from webapp.logstore import queries
from webapp.parts import parts
from webapp.services import accounts
from webapp.web.pages.span import read_span


def page() -> str:
    """List the accounts with their last login and what they did in the window."""
    span, ask = read_span(), parts().answers.ask
    return render_template(
        "admin/users.html",
        span=span,
        users=accounts.list_users()[::-1],
        logins=ask(queries.last_logins),
        active={row.user_id: row for row in ask(queries.users, span.window, None)},
    )


def user_page(user_id: str) -> str:
    """Show one account, or what the log knows of one that was deleted."""
    span, ask = read_span(), parts().answers.ask
    account = _find(user_id)
    active = [row for row in ask(queries.users, span.window, None) if row.user_id == user_id]
    actions = ask(queries.activity, span.window, 20, user_id=user_id)
    last_login = ask(queries.last_logins).get(user_id)
    if not (account or active or actions or last_login):
        raise UserNotFoundError("there is no such user, nor a trace of one in this window")
    return render_template(
        "admin/user.html",
        span=span,
        user_id=user_id,
        account=account,
        roles=ROLES,
        active=active[0] if active else None,
        last_login=last_login,
        actions=actions,
        requests=ask(queries.recent_requests, span.window, 20, user_id=user_id),
    )


def set_role(user_id: str) -> BaseResponse:
    """Give an account another role."""
    role = request.form.get("role", "")
    return _changed("change_role", user_id, lambda: accounts.set_role(user_id, role), role=role)


def set_state(user_id: str) -> BaseResponse:
    """Disable an account, which ends its sessions, or enable it."""
    state = request.form.get("state", "")
    changes = {"disabled": accounts.disable, "enabled": accounts.enable}
    if state not in changes:
        raise InvalidInputError("state must be disabled or enabled", {"field": "state"})
    action = "disable_user" if state == "disabled" else "enable_user"
    return _changed(action, user_id, lambda: changes[state](user_id))


def _changed(action: str, user_id: str, make: Callable[[], User], **facts: str) -> BaseResponse:
    details: dict[str, Any] = {**facts, "user_id": user_id}
    account = _find(user_id)
    email = account.email if account else None
    try:
        make()
    except AppError as error:
        record_action(
            action,
            outcome="failure",
            reason=error.message,
            details=details,
            email=email,
            has_account=email is not None,
        )
        raise
    record_action(action, details=details, email=email)
    return redirect(url_for("pages.user", user_id=user_id), 303)


def _find(user_id: str) -> User | None:
    try:
        return accounts.get_user(user_id)
    except UserNotFoundError:
        return None
