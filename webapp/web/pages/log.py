"""The log itself: search it, page through it, watch it grow."""

import shlex
from datetime import datetime, timedelta
from typing import Any, Final

from flask import Response, make_response, render_template, request

from webapp.errors import InvalidInputError
from webapp.logstore import follow, queries
from webapp.logstore.files import Window
from webapp.logstore.filters import Condition, FilterError, parse_filters
from webapp.parts import parts
from webapp.web.pages.people import emails_of
from webapp.web.pages.span import Span, read_span

_PAGE_ROWS: Final = 100
QUICK: Final = {
    "Warnings": "level>=warning",
    "Errors": "level>=error",
    "Predictions": "event_type=prediction",
    "User actions": "event_type=user_action",
    "Slow": "duration>1",
    "Status ≥ 400": "status_code>=400",
}
Event = dict[str, Any]


def page() -> str | tuple[str, int]:
    """Show the newest events that meet the filters, the newest first."""
    span = read_span()
    text = request.args.get("q", "").strip()
    try:
        words, condition = _condition(text)
    except InvalidInputError as error:
        return _show(span, text, [], [], None, problem=error.message), 400
    # The place first: what is written during the search is then told twice, and not never.
    place = follow.end_of_log(parts().settings.log_dir)
    events, older = _newest(condition, span.window)
    return _show(span, text, words, events, older, place=place if not span.until else "")


def added() -> Response:
    """Tell which events were added since a place, as rows for the page that is open."""
    _, condition = _condition(request.args.get("q", ""))
    try:
        found = follow.added(parts().reader, request.args.get("place", ""), condition)
    except ValueError:
        raise InvalidInputError("place is none that this page was given") from None
    events = (found.events or [])[::-1]
    response = make_response(
        render_template("admin/live_log.html", events=events, emails=_emails(events))
    )
    response.headers["X-Log-Place"] = "" if found.events is None else found.place
    return response


def _show(
    span: Span,
    text: str,
    words: list[str],
    events: list[Event],
    older: str | None,
    **more: str,
) -> str:
    command = span.command("search", *words, "--limit", str(_PAGE_ROWS))
    return render_template(
        "admin/log.html",
        span=span,
        text=text,
        events=events,
        emails=_emails(events),
        older=older,
        quick=QUICK,
        command=command,
        **more,
    )


def _emails(events: list[Event]) -> dict[str, str]:
    return emails_of(event.get("user_id") for event in events)


def _condition(text: str) -> tuple[list[str], Condition]:
    """Read filters as a shell would divide them."""
    try:
        words = shlex.split(text)
        return words, parse_filters(tuple(words))
    except (FilterError, ValueError) as error:
        raise InvalidInputError(str(error), {"field": "q"}) from None


def _newest(condition: Condition, window: Window) -> tuple[list[Event], str | None]:
    """Find the newest events of a window, and the end of the window of those before them."""
    events = parts().answers.ask(queries.search, condition, window, _PAGE_ROWS + 1)[::-1]
    if len(events) <= _PAGE_ROWS:
        return events, None
    # Several lines can have one microsecond: a page ends between two moments, not within one.
    oldest = events[-1]["timestamp"]
    whole = [event for event in events if event["timestamp"] > oldest]
    if not whole:
        return events, oldest
    just_after = datetime.fromisoformat(oldest) + timedelta(microseconds=1)
    return whole, just_after.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
