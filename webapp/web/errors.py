"""Every failure becomes a response here, and nowhere else."""

from typing import Any, Final

from flask import Flask, Response, jsonify, make_response, render_template, request
from gunicorn.http.errors import NoMoreData, ParseException
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, SecurityError
from werkzeug.wrappers import Response as BaseResponse

from webapp.errors import OUT_OF_DESCRIPTORS, AppError, ServiceUnavailableError
from webapp.web import unreadable
from webapp.web.hooks import current_event

_UNKNOWN: Final = "the server failed; its log has the details under this request id"
_DATABASE_AWAY: Final = "the database does not answer now"
_RETRY_SECONDS: Final = 2
# What MLflow calls a failure; the names are those of its ErrorCode.
_MLFLOW_CODES: Final = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}


def init_app(app: Flask) -> None:
    """Register the handlers for named, HTTP, database and unknown failures."""
    app.register_error_handler(AppError, _answer_app_error)
    app.register_error_handler(HTTPException, _answer_http_exception)
    for kind in (OperationalError, InterfaceError, PoolTimeoutError):
        app.register_error_handler(kind, _answer_database_error)
    for unread in (ParseException, NoMoreData):
        app.register_error_handler(unread, _answer_unreadable)
    app.register_error_handler(Exception, _answer_unknown)


def failure(
    status: int,
    error: str,
    message: str,
    details: dict[str, Any] | None = None,
    *,
    reason: str | None = None,
) -> Response:
    """Make the response to a failure, in the form that its path asks for."""
    event = current_event()
    event.annotate(error=error, reason=reason or message)
    request_id = event.context["request_id"]
    # A page has addresses in it, and under a host that is not ours there are none to write.
    is_foreign = isinstance(request.routing_exception, SecurityError)
    if request.path.startswith("/admin/") and not is_foreign:
        said = {"status": status, "message": message, "request_id": request_id}
        return make_response(render_template("admin/error.html", **said), status)
    response = jsonify(_body(status, error, message, details or {}, request_id))
    response.status_code = status
    return response


def _body(
    status: int, error: str, message: str, details: dict[str, Any], request_id: str
) -> dict[str, Any]:
    """Say it as the protocol does that the path belongs to: its first part, or the whole of it."""
    protocol = request.path.split("/", 2)[1]
    if protocol in {"v1", "v2"}:
        return {"error": message}
    if protocol == "invocations":
        code = _MLFLOW_CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
        return {"error_code": code, "message": message, "request_id": request_id}
    return {
        "success": False,
        "error": error,
        "message": message,
        "details": details,
        "request_id": request_id,
    }


def _answer_app_error(error: AppError) -> Response:
    if error.status >= 500:
        current_event().exception = error
    response = failure(
        error.status,
        type(error).__name__,
        error.message,
        error.details,
        reason=error.details.get("reason"),
    )
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def _answer_http_exception(error: HTTPException) -> BaseResponse:
    error = request.environ.get(unreadable.REFUSAL, error)
    if error.code is None or error.code < 400:
        return error.get_response()  # a redirect
    if error.code >= 500:
        # Flask wraps what is raised after the view; what it wraps is what happened.
        current_event().exception = getattr(error, "original_exception", None) or error
    response = failure(error.code, type(error).__name__, _message(error))
    for name, value in error.get_headers():
        if name not in {"Content-Type", "Content-Length"}:
            response.headers[name] = value  # Allow, Retry-After …
    return response


def _message(error: HTTPException) -> str:
    if isinstance(error, RequestEntityTooLarge):
        return _too_large(error)
    if error.code == 404:
        return "there is nothing at this address"  # not repeated: it may hold a secret
    if isinstance(error, SecurityError):
        return "no such host is answered here"  # not repeated either
    return error.description or error.name


def _too_large(error: RequestEntityTooLarge) -> str:
    if error.description and error.description != RequestEntityTooLarge.description:
        return error.description
    limit, sent = request.max_content_length, request.content_length
    if limit is not None and (sent is None or sent > limit):
        return f"the body is larger than the {limit} bytes that this route accepts"
    return "a part of the body is larger than this route accepts"


def _answer_unreadable(error: Exception) -> BaseResponse:
    said = unreadable.refusal(error)
    return _answer_unknown(error) if said is None else _answer_http_exception(said)


def _answer_database_error(error: Exception) -> Response:
    return _answer_unavailable(error, _DATABASE_AWAY)


def _answer_unavailable(error: Exception, message: str) -> Response:
    current_event().exception = error
    unavailable = ServiceUnavailableError(message, retry_after_seconds=_RETRY_SECONDS)
    response = failure(unavailable.status, type(unavailable).__name__, unavailable.message)
    response.headers["Retry-After"] = str(_RETRY_SECONDS)
    return response


def _answer_unknown(error: Exception) -> Response:
    if isinstance(error, OSError) and error.errno in OUT_OF_DESCRIPTORS:
        return _answer_unavailable(error, "the server has too much open at this moment")
    current_event().exception = error
    return failure(500, "InternalServerError", _UNKNOWN)
