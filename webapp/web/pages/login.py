"""The door of the admin page: in with e-mail address and password, and out again."""

from typing import Final

from flask import Response, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from webapp.db.tables import EMAIL_CHARS
from webapp.errors import (
    AppError,
    AuthenticationError,
    InvalidInputError,
    PermissionDeniedError,
    ThrottledError,
)
from webapp.events.actions import record_action
from webapp.services import tokens
from webapp.web.hooks import current_event
from webapp.web.pages import session
from webapp.web.signin import sign_in

# A browser tells where a form was; another site's must not sign anybody in.
_OWN_FORMS: Final = (None, "same-origin", "none")


def show() -> str:
    """Show the form."""
    return _form()


def submit() -> Response | BaseResponse:
    """Open a session and go where one wanted to go."""
    session.check_form()
    if request.headers.get("Sec-Fetch-Site") not in _OWN_FORMS:
        raise PermissionDeniedError("this form was sent by another site")
    email, password = (request.form.get(name, "") for name in ("email", "password"))
    current_event().conceal([password])
    if len(email) > EMAIL_CHARS:
        raise InvalidInputError(f"an e-mail address has at most {EMAIL_CHARS} characters")
    try:
        user = sign_in(email, password, admins_only=True)
    except (AuthenticationError, ThrottledError) as error:
        return _refused(error, email)
    response = redirect(_destination(), 303)
    session.open_session(response, tokens.issue_page_session(user))
    return response


def logout() -> BaseResponse:
    """End the session."""
    response = redirect(url_for("login.show"), 303)
    session.close_session(response)
    record_action("logout")
    return response


def _refused(error: AppError, email: str) -> Response:
    current_event().annotate(error=type(error).__name__, reason=error.message)
    response = make_response(_form(email, error.message), error.status)
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def _form(email: str = "", problem: str = "") -> str:
    wanted = request.values.get("next", "")
    return render_template("admin/login.html", email=email, problem=problem, wanted=wanted)


def _destination() -> str:
    wanted = request.form.get("next", "")
    # No address of ours has control characters, and no header may have them.
    is_ours = wanted.startswith(f"{session.PREFIX}/") and wanted.isprintable()
    return wanted if is_ours else url_for("pages.overview")
