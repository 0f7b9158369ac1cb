"""The flight recorder: what is too detailed for the log, kept until its request has ended well."""

import logging

from webapp.events import canonical, strict
from webapp.events.lines import FrequentRecord
from webapp.events.rotation import SharedRotatingHandler


class FlightRecorder(logging.Handler):
    """Pass records of a level on; hold lower ones of a request until it fails or is slow.

    A prediction that went well is written together with the request's next line, usually its
    last: both are ready within microseconds, and a write costs as much as all else of a line.
    """

    def __init__(
        self, threshold: str, file: SharedRotatingHandler, copy: logging.Handler | None = None
    ) -> None:
        super().__init__()
        self._threshold = logging.getLevelNamesMapping()[threshold]
        self._file = file
        self._copy = copy

    def createLock(self) -> None:  # noqa: N802 - the name in logging
        """Make no lock: this handler has no state of its own."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Write, hold or forget one record; there is nothing to filter and nothing to lock."""
        event = canonical.current()
        if record.levelno < self._threshold:
            if event is None:
                return False
            if not event.released:
                event.hold(_settled(record))
                return False
        if event is None:
            self._file.emit_together((record,))
        elif isinstance(record, FrequentRecord) and record.waits and not event.finished:
            event.followed.append(record)
        elif event.followed:
            self._file.emit_together([*event.take_followed(), record])
        else:
            self._file.emit_together((record,))
        if self._copy is not None:
            self._copy.emit(record)
        return True


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
