"""The stretch of time that a page is about: it lives in the URL, as `since` and `until`."""

import math
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from flask import request

from webapp.errors import InvalidInputError
from webapp.logstore.files import Window
from webapp.logstore.reader import parse_window
from webapp.web.windows import shared_now

DEFAULT: Final = "1h"
CHOICES: Final = {"15m": "15 min", "1h": "1 h", "24h": "24 h", "7d": "7 days"}
_STEPS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 6 * 3600)
_DAY_SECONDS: Final = 86_400
_MOST_STEPS: Final = 120
# A line that claims to be older is no event, as the view of the log has it.
_FIRST_MOMENT: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Span:
    """A window of time, how it was asked for, and the steps that divide it."""

    since: str
    until: str | None
    begin: datetime
    end: datetime
    window: Window

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.end - self.begin).total_seconds()

    @property
    def before(self) -> Window:
        """The stretch of the same length that comes before, as far back as there can be events."""
        length = min(self.end - self.begin, self.begin - _FIRST_MOMENT)
        return Window(self.begin - length, self.begin)

    @property
    def step_seconds(self) -> int:
        """The width of the steps, of which there are at most 121."""
        wanted = self.seconds / _MOST_STEPS
        whole_days = math.ceil(wanted / _DAY_SECONDS) * _DAY_SECONDS
        return next((step for step in _STEPS if step >= wanted), whole_days)

    @property
    def label(self) -> str:
        """Name it for a reader."""
        if self.until is None and self.since in CHOICES:
            return f"last {CHOICES[self.since]}"
        end = f"{self.end:%Y-%m-%d %H:%M}" if self.until else "now"
        return f"{self.begin:%Y-%m-%d %H:%M} to {end} UTC"

    @property
    def arguments(self) -> dict[str, str]:
        """What a URL says to mean it; nothing for the usual one."""
        said = {"since": self.since, "until": self.until}
        if said == {"since": DEFAULT, "until": None}:
            return {}
        return {name: value for name, value in said.items() if value}

    def command(self, *words: str) -> str:
        """Write the command line that prints the same rows."""
        when = ["--since", self.since, *(["--until", self.until] if self.until else [])]
        return shlex.join(["flask", "logs", *words, *when])


def read_span() -> Span:
    """Read the span from the URL; without any it is the last hour.

    Raises
    ------
    InvalidInputError : what stands there is no time, or the end is not after the beginning
    """
    since, until = (request.args.get(name, "").strip() for name in ("since", "until"))
    now = shared_now()
    try:
        window = parse_window(since or (None if until else DEFAULT), until, now)
    except ValueError as error:
        raise InvalidInputError(str(error), {"field": "since, until"}) from None
    end = window.until or now
    if end <= _FIRST_MOMENT:
        raise InvalidInputError("the window ends before any event", {"field": "until"})
    begin = max(window.since or end - timedelta(hours=1), _FIRST_MOMENT)
    if begin >= end:
        raise InvalidInputError("the window must begin in the past", {"field": "since"})
    return Span(
        since or f"{begin:%Y-%m-%dT%H:%M:%SZ}" if until else since or DEFAULT,
        until or None,
        begin,
        end,
        Window(begin, window.until),
    )
