"""Requests: the slowest, those that never ended, the latest; then the whole story of one."""

from datetime import datetime

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from webapp.errors import RequestNotFoundError
from webapp.logstore import queries
from webapp.logstore.rows import Attempt
from webapp.parts import parts
from webapp.web.hooks import current_event
from webapp.web.pages.people import emails_of
from webapp.web.pages.span import read_span

_REFRESH_SECONDS = 30


def page() -> str | BaseResponse:
    """List requests, or go to the one whose id was asked for."""
    if request_id := request.args.get("id", "").strip():
        return redirect(url_for("pages.request", request_id=request_id), 303)
    span, ask = read_span(), parts().answers.ask
    slow = ask(queries.slow_requests, span.window)
    own_id = current_event().context["request_id"]
    unfinished = [
        row for row in ask(queries.unfinished, span.window)[::-1] if row.request_id != own_id
    ]
    return render_template(
        "admin/requests.html",
        span=span,
        slow=slow,
        unfinished=unfinished,
        recent=ask(queries.recent_requests, span.window, 20),
        emails=emails_of([row.user_id for row in slow] + [row.user_id for row in unfinished]),
        refresh=_REFRESH_SECONDS,
    )


def story_page(request_id: str) -> str:
    """Tell the whole story of one request, attempt by attempt."""
    attempts = queries.request_story(parts().reader, request_id)
    if not attempts:
        raise RequestNotFoundError(
            "the log holds no request of this id; it may be older than the log is kept"
        )
    return render_template(
        "admin/request.html",
        request_id=request_id,
        attempts=[(attempt, _head(attempt), _timeline(attempt)) for attempt in attempts],
        emails=emails_of(event.get("user_id") for one in attempts for event in one.events),
    )


def _head(attempt: Attempt) -> dict[str, object]:
    """Gather what all lines together know of the request; its last line has the last word."""
    known: dict[str, object] = {}
    for event in attempt.events:
        known |= event
    return known | (attempt.end or {})


def _timeline(attempt: Attempt) -> list[tuple[float, dict[str, object], str | None]]:
    """Give each line the seconds since the first; a traceback that was told is left out."""
    begin = datetime.fromisoformat(attempt.events[0]["timestamp"])
    lines: list[tuple[float, dict[str, object], str | None]] = []
    told = None
    for event in attempt.events:
        after = (datetime.fromisoformat(event["timestamp"]) - begin).total_seconds()
        trace = event.get("exception")
        lines.append((max(after, 0.0), event, trace if trace != told else None))
        told = trace or told
    return lines
