"""Gunicorn's own messages, written as events; the request's event is the access log."""

from typing import Any

from gunicorn.glogging import Logger

from webapp import settings
from webapp.events import handlers


class EventLogger(Logger):
    """Hand gunicorn's records to the log of the program."""

    def setup(self, cfg: Any) -> None:
        """Configure logging for the master; a worker does it again with its metrics."""
        self.cfg = cfg
        self._access_log_enabled = False
        handlers.configure(settings.load_or_exit())
        handlers.capture_everything()
        self.error_log.propagate = True

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Write nothing: ``Request completed`` says it all."""
