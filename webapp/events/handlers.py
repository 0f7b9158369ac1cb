"""How records reach the log: the configuration of ``logging``, and whatever else could print."""

import logging
import logging.config
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from webapp.events import redact, threads, timing
from webapp.events.recorder import FlightRecorder
from webapp.events.rotation import SharedRotatingHandler
from webapp.events.streams import STDERR, StreamHandler, stdout_handler
from webapp.settings import SETTINGS, Settings

logger = logging.getLogger("webapp.process")
# These say at DEBUG what no request story needs.
_TALKATIVE: Final = ("asyncio", "matplotlib", "PIL", "spectree", "urllib3")


def configure(
    settings: Settings,
    *,
    on_written: Callable[[str], None] = lambda level: None,
    on_dropped: Callable[[str], None] = lambda level: None,
    on_rotated: Callable[[], None] = lambda: None,
) -> SharedRotatingHandler:
    """Send every record of this process to the log; what was configured before is replaced."""
    file_handler = SharedRotatingHandler(
        settings.log_dir,
        settings.log_segment_bytes,
        on_written=on_written,
        on_dropped=on_dropped,
        on_rotated=on_rotated,
    )
    # No line says so, and asking for it costs each record a tenth of its price.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "log": {
                    "()": FlightRecorder,
                    "threshold": settings.log_level,
                    "file": file_handler,
                    "copy": stdout_handler(settings.log_stdout),
                },
                "stderr": {
                    "()": StreamHandler,
                    "level": "ERROR",
                    "descriptor": STDERR,
                    "json": True,
                },
            },
            "root": {"level": "DEBUG", "handlers": ["log"]},
            # A server that cannot start, or that ends, says so to whoever started it, too.
            "loggers": {
                "gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": True},
                logger.name: {"handlers": ["stderr"], "propagate": True},
                "werkzeug": {"level": "INFO"},
                "alembic": {"level": "WARNING"},  # readiness asks it each time
                **{name: {"level": "INFO"} for name in _TALKATIVE},
            },
        }
    )
    redact.remember(*_secrets(settings))
    timing.set_slow_operation_seconds(settings.slow_operation_seconds)
    return file_handler


def _secrets(settings: Settings) -> list[str]:
    values = [str(getattr(settings, spec.name)) for spec in SETTINGS if spec.metadata["secret"]]
    urls = (settings.database_url, settings.redis_url)
    passwords = [urlsplit(url).password or "" for url in urls]
    secrets = (*values, *passwords, *map(unquote, passwords))
    return [secret for secret in secrets if secret and not secret.startswith("sqlite:")]


def capture_everything() -> None:
    """Log what would be printed as text: warnings, and exceptions that nobody caught.

    For a process that serves; a command on a terminal keeps Python's own way.
    """
    logging.captureWarnings(True)
    threads.inherit_context()
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def _log_uncaught(
    kind: type[BaseException], exception: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.critical("Uncaught exception", exc_info=(kind, exception, trace))


def _log_uncaught_in_thread(args: Any) -> None:
    if args.exc_type is not SystemExit:
        caught = (args.exc_type, args.exc_value, args.exc_traceback)
        logger.error("Uncaught exception in a thread", exc_info=caught)


def _log_unraisable(args: Any) -> None:
    caught = (args.exc_type, args.exc_value, args.exc_traceback)
    logger.error("Exception that could not be raised", exc_info=caught)
