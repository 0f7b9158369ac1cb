"""What gunicorn cannot read as a request: refused and logged like any other, in words of ours.

gunicorn's own words repeat what was sent, to the client and to the log, and there may be a secret
in it.
"""

from typing import Final

from flask import Flask
from gunicorn.http import errors
from werkzeug.exceptions import (
    BadRequest,
    ExpectationFailed,
    HTTPException,
    RequestHeaderFieldsTooLarge,
    RequestURITooLarge,
)
from werkzeug.http import http_date
from werkzeug.test import create_environ, run_wsgi_app

# In the environ: what to answer, whatever is asked for.
REFUSAL: Final = "pellucid.refusal"
# What stands for the method and the path.
_UNREADABLE: Final = "<unreadable>"
_BODY: Final = (BadRequest, "the chunks of the body are broken or incomplete")
_HEADER: Final = (BadRequest, "a header is malformed, repeated or not allowed")
_LINE: Final = (BadRequest, "the request line is malformed")
_REFUSALS: Final[dict[type[BaseException], tuple[type[HTTPException], str]]] = {
    errors.ChunkMissingTerminator: _BODY,
    errors.InvalidChunkExtension: _BODY,
    errors.InvalidChunkSize: _BODY,
    errors.NoMoreData: _BODY,
    errors.InvalidHeader: _HEADER,
    errors.InvalidHeaderName: _HEADER,
    errors.ObsoleteFolding: _HEADER,
    errors.InvalidHTTPVersion: _LINE,
    errors.InvalidRequestLine: _LINE,
    errors.InvalidRequestMethod: _LINE,
    errors.LimitRequestLine: (RequestURITooLarge, "the request line is too long"),
    errors.LimitRequestHeaders: (
        RequestHeaderFieldsTooLarge,
        "there are too many headers, or one is too long",
    ),
    errors.ExpectationFailed: (ExpectationFailed, "nothing but 100-continue can be expected"),
    # Not 501, which would be a failure of ours in the log.
    errors.UnsupportedTransferCoding: (BadRequest, "the only transfer coding known is chunked"),
}


def refusal(error: BaseException) -> HTTPException | None:
    """Say what was wrong with a request, if it was that and not the program's answer."""
    if type(error) not in _REFUSALS:  # nor a child of one: those of responses are
        return None
    kind, message = _REFUSALS[type(error)]
    return kind(message)


def answer(app: Flask, said: HTTPException, client_ip: str) -> bytes:
    """Let the program refuse what is no request; return the whole response."""
    environ = create_environ(f"/{_UNREADABLE}", method=_UNREADABLE)
    environ |= {"REMOTE_ADDR": client_ip, REFUSAL: said}
    body, status, headers = run_wsgi_app(app, environ, buffered=True)
    headers.set("Date", http_date())
    headers.set("Connection", "close")
    return f"HTTP/1.1 {status}\r\n{headers}".encode("latin-1") + b"".join(body)
