"""The flight recorder: what is too detailed for the log, kept until its request has ended well."""

import logging
from collections.abc import Sequence

from webapp.events import canonical, strict


class FlightRecorder(logging.Handler):
    """Pass records of a level on; hold lower ones of a request until it fails or is slow."""

    def __init__(self, threshold: str, targets: Sequence[logging.Handler]) -> None:
        super().__init__()
        self._threshold = logging.getLevelNamesMapping()[threshold]
        self._targets = targets

    def createLock(self) -> None:  # noqa: N802 - the name in logging
        """Make no lock: this handler has no state of its own."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle one record; there is nothing to filter and nothing to lock."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write, hold or forget one record."""
        if record.levelno < self._threshold:
            event = canonical.current()
            if event is None:
                return
            if not event.released:
                event.held.append(_settled(record))
                return
        for target in self._targets:
            target.emit(record)


def _settled(record: logging.LogRecord) -> logging.LogRecord:
    """Format the message now: what it tells of may change before it is written."""
    if record.args or type(record.msg) is not str:
        try:
            record.msg, record.args = record.getMessage(), ()
        except Exception:  # the formatter says so on the line, if it is ever written
            return record
    if len(record.msg) > strict.MAX_LINE_BYTES:  # a line cuts it anyway, and 200 are held
        record.msg = record.msg[: strict.MAX_LINE_BYTES]
    return record
