"""The admin page: which address shows what, all of it behind one door."""

from collections.abc import Callable
from typing import Any, Final

from flask import Blueprint, Flask, g, request, url_for

from webapp.web.hooks import LIVE_PREFIX
from webapp.web.pages import (
    activity,
    errors,
    formats,
    log,
    login,
    models,
    overview,
    requests,
    session,
    users,
)
from webapp.web.pages.span import CHOICES, Span

_PAGES: Final[dict[str, tuple[str, Callable[..., Any]]]] = {
    "overview": ("/", overview.page),
    "errors": ("/errors", errors.page),
    "error_group": ("/errors/group", errors.group_page),
    "requests": ("/requests", requests.page),
    "request": ("/requests/<request_id>", requests.story_page),
    "log": ("/log", log.page),
    "models": ("/models", models.page),
    "model": ("/models/<model_id>", models.model_page),
    "users": ("/users", users.page),
    "user": ("/users/<user_id>", users.user_page),
    "activity": ("/activity", activity.page),
}
# These refresh themselves: the same page without its frame, and marked as internal in the log.
_LIVE: Final = ("overview", "errors", "requests", "models", "activity")
_NAVIGATION: Final = ("overview", "errors", "requests", "log", "models", "users", "activity")


def init_app(app: Flask) -> None:
    """Register the pages; but for the login page, each asks first who is there."""
    door = Blueprint("login", __name__, url_prefix=session.PREFIX)
    door.add_url_rule("/login", "show", login.show)
    door.add_url_rule("/login", "submit", login.submit, methods=["POST"])

    pages = Blueprint("pages", __name__, url_prefix=session.PREFIX)
    pages.before_request(session.require_admin)
    pages.after_request(session.keep_renewed)
    for name, (path, view) in _PAGES.items():
        pages.add_url_rule(path, name, view)
    live = LIVE_PREFIX.removeprefix(session.PREFIX)
    for name in _LIVE:
        pages.add_url_rule(f"{live}{name}", f"live_{name}", _PAGES[name][1])
    pages.add_url_rule(f"{live}log", "live_log", log.added)
    pages.add_url_rule("/logout", "logout", login.logout, methods=["POST"])
    pages.add_url_rule("/users/<user_id>/role", "set_role", users.set_role, methods=["POST"])
    pages.add_url_rule("/users/<user_id>/state", "set_state", users.set_state, methods=["POST"])

    app.register_blueprint(door)
    app.register_blueprint(pages)
    app.jinja_env.finalize = formats.visible
    app.jinja_env.filters.update(formats.FILTERS)
    app.jinja_env.globals.update(
        page_url=page_url, navigation=_NAVIGATION, windows=CHOICES, change=formats.change
    )
    app.context_processor(_frame)


def page_url(name: str, span: Span | None = None, **arguments: Any) -> str:
    """Write the address of a page, which keeps the window of the one it stands on."""
    return url_for(f"pages.{name}", **{**(span.arguments if span else {}), **arguments})


def _frame() -> dict[str, Any]:
    """Tell the templates who is signed in, and whether the page comes with its frame."""
    live = request.path.startswith(LIVE_PREFIX)
    return {
        "layout": "admin/live.html" if live else "admin/layout.html",
        "identity": g.get("identity"),
        "csrf": g.get("csrf"),
    }
