"""The hooks that turn every request into one event."""

import re
from typing import Any, Final

import uuid_utils
from flask import Flask, Request, Response, request
from werkzeug.datastructures import Authorization

from webapp import metrics
from webapp.events import canonical, redact, schema
from webapp.settings import Settings

# What is shaped like a token would be redacted on the lines, and so would not be found by it.
_REQUEST_ID: Final = re.compile(r"(?!.*(?:eyJ|(?i:pel_)))[A-Za-z0-9._-]{8,64}")
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_CREDENTIALS: Final = (
    "HTTP_AUTHORIZATION",
    "HTTP_PROXY_AUTHORIZATION",
    "HTTP_X_API_KEY",
    "HTTP_X_AUTH_TOKEN",
)
_EVENT: Final = "pellucid.event"
_PROBES: Final = (
    "/healthz",
    "/readyz",
    "/v2/health/live",
    "/v2/health/ready",
    "/ping",
    "/health",
    "/version",
)
INTERNAL_ROUTES: Final = frozenset({*_PROBES, "/metrics", "/static/<path:filename>"})
# What an open admin page asks by itself, to stay up to date.
LIVE_PREFIX: Final = "/admin/live/"


def init_app(app: Flask, settings: Settings) -> None:
    """Register the hooks; before all others, so that theirs are inside the event."""
    slow_seconds = settings.slow_request_seconds

    def open_event() -> None:
        req = _request()
        event = _new_event(req, slow_seconds)
        event.start(_opening_facts(req, event))

    def copy_status(response: Response) -> Response:
        event = current_event(slow_seconds)
        event.status_code = response.status_code
        event.response_bytes = _body_bytes(response)
        response.headers.add("X-Request-ID", event.context["request_id"])
        return response

    def close_event(exception: BaseException | None) -> None:
        event = current_event(slow_seconds)
        if exception is not None:
            event.exception = event.exception or exception
            event.status_code = 500
        if not event.streamed:
            finish(event)
        canonical.leave()

    app.before_request(open_event)
    app.after_request(copy_status)
    app.teardown_request(close_event)


def current_event(slow_seconds: float = 1.0) -> canonical.RequestEvent:
    """Get the event of this request; make it where opening the request failed."""
    # In the environ it is still found when teardown runs a second time, after it was left.
    event = canonical.current()
    if event is None:
        req = _request()
        event = req.environ.get(_EVENT) or _new_event(req, slow_seconds)
    return event


def finish(event: canonical.RequestEvent) -> None:
    """Write the event's last line and count the request."""
    if event.finished:
        return
    seconds = event.finish()
    context = event.context
    metrics.observe_request(context["route"], context["method"], event.status_code, seconds)


def finish_with_stream(response: Response) -> Response:
    """Let the event of a streamed response end when its last byte has left."""
    event = current_event()
    event.streamed = True

    def close() -> None:
        canonical.enter(event)
        finish(event)
        canonical.leave()

    response.direct_passthrough = False  # with it, werkzeug never calls what we register here
    response.call_on_close(close)
    return response


def _request() -> Request:
    """Get the request itself: through Flask's proxy, each use costs as much as a field."""
    found: Request = request._get_current_object()  # type: ignore[attr-defined]
    return found


def _new_event(req: Request, slow_seconds: float) -> canonical.RequestEvent:
    environ = req.environ
    sent_id = environ.get("HTTP_X_REQUEST_ID")
    rule = req.url_rule
    route = rule.rule if rule is not None else schema.UNMATCHED
    context: dict[str, Any] = {
        "request_id": (
            sent_id if sent_id and _REQUEST_ID.fullmatch(sent_id) else str(uuid_utils.uuid7())
        ),
        "method": environ["REQUEST_METHOD"],
        "path": req.path,
        "route": route,
        "client_ip": environ.get("REMOTE_ADDR"),
    }
    if "HTTP_TRACEPARENT" in environ:
        context |= _trace_context(environ["HTTP_TRACEPARENT"])
    internal = route in INTERNAL_ROUTES or route.startswith(LIVE_PREFIX)
    event = canonical.RequestEvent(context, slow_seconds=slow_seconds, internal=internal)
    if "HTTP_COOKIE" in environ:
        event.conceal(req.cookies.values())
    for header in _CREDENTIALS:
        if header in environ:
            _conceal_credentials(event, environ[header])
    if environ.get("CONTENT_LENGTH"):
        event.annotate(request_bytes=req.content_length)
    environ[_EVENT] = event
    canonical.enter(event)
    return event


def _opening_facts(req: Request, event: canonical.RequestEvent) -> dict[str, Any]:
    environ = req.environ
    facts: dict[str, Any] = {}
    if "HTTP_USER_AGENT" in environ:
        facts["user_agent"] = environ["HTTP_USER_AGENT"]
    if environ.get("QUERY_STRING"):
        # Lists, which also keep repeated names: a query of `?level=ERROR` must not look like a
        # line's own "level":"ERROR" to a byte search.
        params = facts["query_params"] = req.args.to_dict(flat=False)
        for name in filter(redact.is_sensitive, params):
            event.conceal(params[name])
    return facts


def _body_bytes(response: Response) -> int | None:
    """Tell the length of the body: of one piece, without looking through the headers."""
    body = response.response
    if type(body) is list and len(body) == 1 and type(body[0]) is bytes:
        return len(body[0])
    length = response.headers.get("Content-Length")
    return None if length is None else int(length)


def _conceal_credentials(event: canonical.RequestEvent, header: str) -> None:
    # Tokens of ours are known by their shape; naming each would cost every line a second pass.
    scheme, _, credentials = header.partition(" ")
    credentials = credentials.strip()
    if not redact.has_known_shape(credentials):
        event.conceal([credentials, header])
        if scheme.lower() == "basic":
            decoded = Authorization.from_header(header)
            event.conceal([decoded.password or ""] if decoded else [])


def _trace_context(header: str) -> dict[str, str]:
    """Read a traceparent header (W3C Trace Context, section 3.2); an invalid one counts as none."""
    match = _TRACEPARENT.fullmatch(header)
    if match is None or "," in header:  # there were several
        return {}
    version, trace_id, span_id, rest = match.groups()
    invalid = version == "ff" or set(trace_id) == {"0"} or set(span_id) == {"0"}
    if invalid or (version == "00" and rest):
        return {}
    return {"trace_id": trace_id, "span_id": span_id}
