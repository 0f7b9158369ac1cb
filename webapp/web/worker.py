"""gunicorn's worker with threads, that waits only so long for what a client sends."""

import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final, cast

from flask import Flask
from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

from webapp.web import unreadable

# From the first byte to the last header; then for the body, and how much of it may take how long.
HEAD_SECONDS: Final = 10
BODY_SECONDS: Final = 30
BODY_BYTES_PER_SECOND: Final = 64 * 2**10
# What a body in chunks, which has no length, may take the time of.
_UNKNOWN_BYTES: Final = 8 * 2**20
# A longer body is refused before it is read; a number may be longer than any float.
_MOST_BYTES: Final = 2**40
_TICK_SECONDS: Final = 1


class PatientWorker(ThreadWorker):
    """Ends requests that come too slowly: each would hold a thread for as long as it likes.

    A socket's reading side is shut, so that its thread finds the client gone. An answer that is
    being worked on or sent is not concerned.
    """

    def init_process(self) -> None:
        """Load the program and serve; never returns."""
        self._deadlines: dict[socket.socket, float] = {}
        super().init_process()

    def run(self) -> None:
        """Serve, and watch; not before, because a thread is confined as the one that begins it."""
        threading.Thread(target=self._watch, daemon=True, name="patience").start()
        super().run()

    # Any: gunicorn has no types for its connections and requests.
    def handle(self, conn: Any) -> Any:
        """Handle one request of a connection."""
        self._deadlines[conn.sock] = time.monotonic() + HEAD_SECONDS
        try:
            return super().handle(conn)
        finally:
            self._deadlines.pop(conn.sock, None)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose headers are there."""
        sent = dict(req.headers).get("CONTENT-LENGTH", "")
        length = min(int(sent), _MOST_BYTES) if sent.isdecimal() else _UNKNOWN_BYTES
        patience = BODY_SECONDS + length / BODY_BYTES_PER_SECOND
        self._deadlines[conn.sock] = time.monotonic() + patience
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
            for late in [sock for sock, end in self._deadlines.copy().items() if end < now]:
                try:
                    late.shutdown(socket.SHUT_RD)
                except OSError:  # it is closed by now
                    continue
