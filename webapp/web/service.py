"""The kind of Flask that the program is."""

from collections.abc import Callable
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import RequestRedirect


class _NoSessions(SessionInterface):
    """Opens no session: who calls is told by a token."""

    _NONE: Final = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        """Return what cannot be written to, always the same."""
        return self._NONE


class Service(Flask):
    """A Flask whose views and hooks are plain functions, and that has no sessions.

    Flask asks each function, at each request, whether it is a coroutine function.
    """

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Take a function as it is."""
        return func

    def raise_routing_exception(self, request: Request) -> NoReturn:
        """Redirect within this server: its name and scheme are what the client says they are."""
        redirect = request.routing_exception
        if isinstance(redirect, RequestRedirect):
            redirect.new_url = urlsplit(redirect.new_url)._replace(scheme="", netloc="").geturl()
        super().raise_routing_exception(request)
