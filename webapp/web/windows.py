"""The window of time that a query asks about."""

from datetime import UTC, datetime

from webapp.errors import InvalidInputError
from webapp.logstore.caching import CACHE_SECONDS
from webapp.logstore.files import Window
from webapp.logstore.reader import parse_window
from webapp.web.schemas import WindowQuery


def shared_now() -> datetime:
    """Read the clock in steps, so that whoever asks within one step asks the same question."""
    stepped = datetime.now(UTC).timestamp() // CACHE_SECONDS * CACHE_SECONDS
    return datetime.fromtimestamp(stepped, UTC)


def read_window(query: WindowQuery) -> Window:
    """Read ``since`` and ``until``; without them the window is all time kept."""
    try:
        return parse_window(query.since, query.until, shared_now())
    except ValueError as error:
        raise InvalidInputError(str(error), {"field": "since, until"}) from None
