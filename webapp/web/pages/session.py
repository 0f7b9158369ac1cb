"""Who may see the admin page: a session in cookies that the browser sends to /admin only."""

from typing import Final

from flask import Response, g, redirect, request, url_for
from flask_jwt_extended import get_jwt, verify_jwt_in_request
from flask_jwt_extended.config import config
from flask_jwt_extended.exceptions import CSRFError, JWTExtendedException
from jwt.exceptions import PyJWTError
from werkzeug.wrappers import Response as BaseResponse

from webapp.errors import AuthenticationError, PermissionDeniedError, UnsupportedMediaTypeError
from webapp.services import tokens
from webapp.services.tokens import Claims, TokenPair
from webapp.web.hooks import LIVE_PREFIX, current_event

PREFIX: Final = "/admin"
_FORM: Final = "application/x-www-form-urlencoded"
# The longest `next` (a request line) and the longest password fit, with every byte escaped.
_FORM_BYTES: Final = 32 * 1024


def require_admin() -> BaseResponse | None:
    """Let nobody past but an admin with a session; send others to the login page."""
    check_form()
    claims, renewed = _read_claims()
    try:
        if claims is None:
            raise AuthenticationError("nobody is signed in")
        identity = tokens.identify(claims)
    except AuthenticationError as error:
        if request.path.startswith(LIVE_PREFIX):
            raise  # a script asks, which reloads the page then
        current_event().annotate(reason=error.message)
        wanted = request.full_path.rstrip("?") if request.method == "GET" else None
        return redirect(url_for("login.show", next=wanted), 303)
    current_event().identify(identity.user_id, identity.role)
    if identity.role != "admin":
        raise PermissionDeniedError("this page is for admins only")
    g.identity, g.csrf = identity, claims["csrf"]
    if renewed:
        g.renewed_access = tokens.renew_page_access(claims)
    return None


def check_form() -> None:
    """Refuse a body that is no small plain form before anything reads it: parts become files."""
    if request.method != "POST":
        return
    if request.mimetype != _FORM:
        raise UnsupportedMediaTypeError(f"the form must be sent as {_FORM}")
    # Werkzeug's own limit for forms does not hold for those without parts.
    request.max_content_length = _FORM_BYTES


def keep_renewed(response: Response) -> Response:
    """Send the access token that was renewed for this request along with its answer."""
    if renewed := g.pop("renewed_access", None):
        _set(response, config.access_cookie_name, renewed)
    return response


def open_session(response: BaseResponse, pair: TokenPair) -> None:
    """Give the browser a session; it ends with the browser at the latest."""
    _set(response, config.access_cookie_name, pair.access_token)
    _set(response, config.refresh_cookie_name, pair.refresh_token)


def close_session(response: BaseResponse) -> None:
    """Revoke the session and take its cookies away."""
    tokens.revoke_session(get_jwt())
    for name in (config.access_cookie_name, config.refresh_cookie_name):
        response.delete_cookie(name, path=PREFIX)


def _set(response: BaseResponse, name: str, token: str) -> None:
    # By hand: the library knows one setting for Secure, whether a request came by TLS or not.
    response.set_cookie(
        name, token, path=PREFIX, httponly=True, samesite="Lax", secure=request.is_secure
    )


def _read_claims() -> tuple[Claims | None, bool]:
    """Read the access cookie, else the refresh cookie; tell whether it was the second."""
    for refresh in (False, True):
        try:
            verified = verify_jwt_in_request(refresh=refresh, locations=["cookies"])
        except CSRFError:
            raise PermissionDeniedError(
                "this form is not from this session; go back, reload the page and try again"
            ) from None
        except (JWTExtendedException, PyJWTError):
            continue  # missing, expired or forged: whoever it is has to sign in
        if verified:  # of OPTIONS, the library looks at nothing
            return verified[1], refresh
    return None, False
