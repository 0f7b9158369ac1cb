"""What trusted proxies say of the client: its address, the scheme and the host that it asked."""

import re
from typing import TYPE_CHECKING, Final

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Some proxies add the port, which is another for each connection.
_WITH_PORT: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::\d+)?")


def init_app(app: Flask, hops: int) -> None:
    """Believe what the last ``hops`` proxies say."""
    if hops:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # Flask documents this way
            _without_port(app.wsgi_app), x_for=hops, x_proto=hops, x_host=hops
        )


def _without_port(inner: "WSGIApplication") -> "WSGIApplication":
    def outer(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        found = _WITH_PORT.fullmatch(environ.get("REMOTE_ADDR", ""))
        if found:
            environ["REMOTE_ADDR"] = found[1] or found[2]
        return inner(environ, start_response)

    return outer
