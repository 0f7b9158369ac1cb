"""gunicorn's worker with threads, that waits only so long for a client to send or to receive."""

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from flask import Flask
from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

from webapp.web import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

# What a body in chunks, which has no length, may take the time of.
_UNKNOWN_BYTES: Final = 8 * 2**20
# A longer body is refused before it is read; a number may be longer than any float.
_MOST_BYTES: Final = 2**40
_TICK_SECONDS: Final = 1


class PatientWorker(ThreadWorker):
    """Ends connections that are too slow: each would hold a thread for as long as it likes.

    Where a request does not come, the reading side of the socket is shut, so that its thread finds
    the client gone and can still say so; where an answer is not taken, both sides are. The time in
    which the answer is being worked on counts for neither.
    """

    head_seconds: ClassVar[float] = 10  # from the first byte to the last header
    # For the body, and then for the answer; and how much of them may take how long.
    body_seconds: ClassVar[float] = 30
    bytes_per_second: ClassVar[float] = 64 * 2**10

    def init_process(self) -> None:
        """Load the program and serve; never returns."""
        # Until when, and what is shut then.
        self._deadlines: dict[socket.socket, tuple[float, int]] = {}
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the program, and look at each of its answers before it is sent."""
        super().load_wsgi()
        app = cast(Flask, self.wsgi)
        app.wsgi_app = self._with_deadlines(app.wsgi_app)  # type: ignore[method-assign,assignment]  # as Flask says

    def run(self) -> None:
        """Serve, and watch; not before, because a thread is confined as the one that begins it."""
        threading.Thread(target=self._watch, daemon=True, name="patience").start()
        super().run()

    # Any: gunicorn has no types for its connections and requests.
    def handle(self, conn: Any) -> Any:
        """Handle one request of a connection."""
        self._deadlines[conn.sock] = time.monotonic() + self.head_seconds, socket.SHUT_RD
        try:
            return super().handle(conn)
        finally:
            self._deadlines.pop(conn.sock, None)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose headers are there."""
        sent = dict(req.headers).get("CONTENT-LENGTH", "")
        length = min(int(sent), _MOST_BYTES) if sent.isdecimal() else None
        self._deadlines[conn.sock] = self._end_of(length), socket.SHUT_RD
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what is no request, or say that the program failed."""
        said = unreadable.refusal(exc)
        if said is None:
            super().handle_error(req, client, addr, exc)
            return
        client_ip = addr[0] if isinstance(addr, tuple) else ""
        answer = unreadable.answer(cast(Flask, self.wsgi), said, client_ip)
        with suppress(OSError):  # the client is gone
            util.write_nonblock(client, answer)

    def _watch(self) -> None:
        while True:
            time.sleep(_TICK_SECONDS)
            now = time.monotonic()
            for sock, (end, side) in self._deadlines.copy().items():
                if end < now:
                    with suppress(OSError):  # it is closed by now
                        sock.shutdown(side)

    def _with_deadlines(self, app: "WSGIApplication") -> "WSGIApplication":
        def outer(environ: "WSGIEnvironment", start_response: Any) -> "Iterable[bytes]":
            answer = app(environ, start_response)
            sock = environ.get("gunicorn.socket")
            if sock is not None:  # else there was no request
                # gunicorn's own, as no other middleware is around this one.
                length = start_response.__self__.response_length
                self._deadlines[sock] = self._end_of(length), socket.SHUT_RDWR
            return answer

        return outer

    def _end_of(self, length: int | None) -> float:
        """Tell when a body of so many bytes has to be through."""
        size = _UNKNOWN_BYTES if length is None else length
        return time.monotonic() + self.body_seconds + size / self.bytes_per_second
