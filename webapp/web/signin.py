"""Signing in with e-mail address and password: throttled and logged, wherever it is done."""

from flask import request

from webapp.db.tables import User
from webapp.errors import AppError, PermissionDeniedError
from webapp.events.actions import record_action
from webapp.parts import parts
from webapp.services import accounts
from webapp.web.hooks import current_event


def sign_in(email: str, password: str, *, admins_only: bool = False) -> User:
    """Find the account that signs in, and log who it was or why nobody is let in.

    Raises
    ------
    AuthenticationError, ThrottledError : as ``accounts.authenticate`` and the throttle say
    PermissionDeniedError : the account is no admin's, and only those are let in here
    """
    throttle, ip = parts().throttle, request.remote_addr or ""
    try:
        throttle.check(email, ip)
        try:
            user = accounts.authenticate(email, password)
        except AppError:
            throttle.failed(email, ip)
            raise
        throttle.succeeded(email, ip)
        if admins_only and user.role != "admin":
            raise PermissionDeniedError("this is for admins only")
    except AppError as error:
        record_action(
            "login",
            outcome="failure",
            reason=error.message,
            email=email,
            has_account=accounts.has_account(email),
        )
        raise
    current_event().identify(user.id, user.role)
    record_action("login", email=user.email)
    return user
