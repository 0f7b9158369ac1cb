"""One request, one event: start → annotate → finish."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Final

from webapp.events import redact, schema
from webapp.events.lines import FrequentLine

logger = logging.getLogger("webapp.request")

HELD_RECORDS: Final = 200
# A statement that runs so often in one request is most likely a query in a loop.
REPEATED_QUERIES: Final = 5
_WARN_STATUSES: Final = frozenset({401, 403, 429})
# What the last line says by itself, and no fact can replace.
_GIVEN: Final = schema.GIVEN_NAMES.union(
    ("status_code", "duration", "response_bytes", "db_queries", "db_duration")
)


class RequestEvent:
    """What is known of the request that is being served.

    ``context`` stands on every line written meanwhile, ``facts`` on the last one. The context has
    the request's id, ``method``, ``path`` and ``client_ip``, in which a client may have put
    anything, and else what the program chose.
    """

    __slots__ = (
        "context",
        "context_part",
        "db_duration",
        "db_queries",
        "exception",
        "facts",
        "finished",
        "followed",
        "held",
        "internal",
        "opened",
        "released",
        "response_bytes",
        "secrets",
        "slow_seconds",
        "statements",
        "status_code",
        "streamed",
    )

    def __init__(
        self, context: dict[str, Any], *, slow_seconds: float, internal: bool = False
    ) -> None:
        self.opened = time.perf_counter()
        self.context = context
        self.context_part: bytes | None = None  # as the formatter writes it on every line
        self.facts: dict[str, Any] = {}
        self.internal = internal
        if internal:
            context["internal"] = True
        self.slow_seconds = slow_seconds
        self.status_code = 500  # until there is an answer
        self.response_bytes: int | None = None
        self.exception: BaseException | None = None
        self.finished = False
        self.streamed = False  # the response is still on its way when the request is torn down
        # The flight recorder: records below the level of the log, written only if they matter.
        self.held: list[logging.LogRecord] = []
        self.released = False
        # Records of which another of this request is about to follow: both share one write.
        self.followed: list[logging.LogRecord] = []
        self.secrets: set[str] = set()
        self.db_queries = 0
        self.db_duration = 0.0
        self.statements: Counter[str] | None = None

    def start(self, facts: dict[str, Any]) -> None:
        """Write the line that says that the request began."""
        level = logging.DEBUG if self.internal else logging.INFO
        _started.emit(level, "Request started", {"event_type": schema.REQUEST_STARTED}, facts)

    def annotate(self, **facts: Any) -> None:
        """Add facts to the request's last line."""
        if not _GIVEN.isdisjoint(facts):
            facts = {name: facts[name] for name in facts if name not in _GIVEN}
        self.facts.update(facts)

    def identify(self, user_id: str, role: str) -> None:
        """Note who calls; from here on every line says so."""
        self.context["user_id"] = user_id
        self.context["role"] = role
        self.context_part = None

    def conceal(self, secrets: Iterable[str]) -> None:
        """Never write these values on a line of this request."""
        for secret in secrets:
            self.secrets |= redact.spellings(secret)

    def hold(self, record: logging.LogRecord) -> None:
        """Keep a record that is too detailed for the log; of many, the last."""
        self.held.append(record)
        if len(self.held) > HELD_RECORDS:
            del self.held[0]

    def note_query(self, statement: str, seconds: float) -> None:
        """Count one SQL statement and the time it took."""
        self.db_queries += 1
        self.db_duration += seconds
        if self.statements is None:
            self.statements = Counter()
        self.statements[statement] += 1

    def finish(self) -> float:
        """Write the request's last line, once; return its duration in seconds."""
        duration = time.perf_counter() - self.opened
        if self.finished:
            return duration
        self.finished = True
        status_code = self.status_code
        unready = status_code == 503 and self.internal
        failed = status_code >= 500 and not unready
        slow = duration > self.slow_seconds
        if failed or slow:
            self._release()
        figures = {
            "event_type": schema.REQUEST_COMPLETED,
            "status_code": status_code,
            "duration": int(duration * 1e6) / 1e6,  # a fifth of what `round` costs
            "db_queries": self.db_queries,
            "db_duration": self.db_duration and round(self.db_duration, 6),
        }
        if self.response_bytes is not None:
            figures["response_bytes"] = self.response_bytes
        if self.statements is not None:
            self._note_repeated(self.statements)
        if failed:
            figures["event_type"] = schema.REQUEST_FAILED
            _ended.emit(logging.ERROR, "Request failed", figures, self.facts, self.exception)
        else:
            noted = slow or unready or status_code in _WARN_STATUSES
            usual = logging.DEBUG if self.internal and status_code < 400 else logging.INFO
            level = logging.WARNING if noted else usual
            _ended.emit(level, "Request completed", figures, self.facts)
        if self.followed:  # the last line is below the level of the log
            for record in self.take_followed():
                logging.getLogger().handle(record)
        return duration

    def take_followed(self) -> Iterator[logging.LogRecord]:
        """Take the records that waited for another; each once, in whatever thread."""
        while self.followed:
            try:
                yield self.followed.pop(0)
            except IndexError:
                return

    def _note_repeated(self, statements: Counter[str]) -> None:
        statement, count = statements.most_common(1)[0]
        if count >= REPEATED_QUERIES:
            self.annotate(db_repeated_query=statement[:200], db_repeated_count=count)

    def _release(self) -> None:
        """Write the held records: the request turned out to matter."""
        self.released = True
        while self.held:
            logging.getLogger().handle(self.held.pop(0))


_started: Final = FrequentLine(logger, RequestEvent.start)
_ended: Final = FrequentLine(logger, RequestEvent.finish)

_current: ContextVar[RequestEvent | None] = ContextVar("request_event", default=None)


# Finds the event of the request that this thread or task works for. Every line asks several times,
# and a function around this would double its price.
current: Final[Callable[[], RequestEvent | None]] = _current.get
# Makes this the current event, or none.
enter: Final[Callable[[RequestEvent | None], object]] = _current.set


def leave() -> None:
    """Forget the current event."""
    enter(None)


def annotate(**facts: Any) -> None:
    """Add facts to the current request's last line, if there is a request."""
    event = _current.get()
    if event is not None:
        event.annotate(**facts)
