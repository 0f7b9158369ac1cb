"""Errors: what fails, how often and since when; then one cause with its traceback."""

from flask import render_template, request

from webapp.logstore import queries
from webapp.parts import parts
from webapp.web.pages import charts
from webapp.web.pages.people import emails_of
from webapp.web.pages.span import read_span

_REFRESH_SECONDS = 30


def page() -> str:
    """Group failures by their cause."""
    span, ask = read_span(), parts().answers.ask
    counts = ask(queries.error_series, span.window, span.step_seconds)
    return render_template(
        "admin/errors.html",
        span=span,
        groups=ask(queries.error_groups, span.window),
        sparklines=charts.sparklines(span, counts),
        refresh=_REFRESH_SECONDS,
    )


def group_page() -> str:
    """Show one cause: its traceback and the requests that met it."""
    span, ask = read_span(), parts().answers.ask
    cause = request.args.get("cause", "")
    groups = ask(queries.error_groups, span.window, None)
    found = ask(queries.occurrences, cause, span.window)
    return render_template(
        "admin/error_group.html",
        span=span,
        cause=cause,
        group=next((group for group in groups if group.fingerprint == cause), None),
        occurrences=found,
        trace=next((one.exception for one in found if one.exception), None),
        emails=emails_of(one.user_id for one in found),
    )
