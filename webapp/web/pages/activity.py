"""Activity: who did what, when, and from where."""

from flask import render_template, request

from webapp.logstore import queries
from webapp.parts import parts
from webapp.web.pages.people import emails_of
from webapp.web.pages.span import read_span

_REFRESH_SECONDS = 30
_LIMIT = 100


def page() -> str:
    """List user actions, the newest first."""
    span, ask = read_span(), parts().answers.ask
    action = request.args.get("action") or None
    failed = request.args.get("outcome") == "failure"
    found = ask(
        queries.activity, span.window, _LIMIT, action=action, outcome="failure" if failed else None
    )
    words = ["event_type=user_action"]
    words += [f"action={action}"] if action else []
    words += ["outcome=failure"] if failed else []
    return render_template(
        "admin/activity.html",
        span=span,
        found=found,
        action=action,
        failed=failed,
        actions=ask(queries.actions, span.window),
        limit=_LIMIT,
        command=span.command("search", *words, "--limit", str(_LIMIT)),
        emails=emails_of(one.user_id for one in found),
        refresh=_REFRESH_SECONDS,
    )
