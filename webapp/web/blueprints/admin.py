"""What the log says, for admins: ``/api/v1/admin``."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from flask import Blueprint
from pydantic import Field

from webapp.errors import RequestNotFoundError
from webapp.logstore import queries
from webapp.logstore.files import Window
from webapp.logstore.reader import LogReader
from webapp.parts import parts
from webapp.web.body import read_query
from webapp.web.docs import documented
from webapp.web.schemas import PerformanceQuery, Success, WindowQuery
from webapp.web.security import requires_admin
from webapp.web.windows import read_window

blueprint = Blueprint("admin", __name__, url_prefix="/api/v1/admin")

_USAGE_BUCKETS: Final = 60
_BUCKET_SECONDS: Final = (60, 300, 900, 3600, 6 * 3600, 86_400)
_DAY_SECONDS: Final = 86_400
Data = dict[str, Any]


class UsageQuery(WindowQuery):
    """A stretch of time and the width of its steps; without it about 60 steps are made."""

    bucket_seconds: Annotated[int | None, Field(ge=1, le=_DAY_SECONDS)] = None


@blueprint.get("/metrics")
@documented("admin", Success[Data], query=WindowQuery, failures=(403,))
@requires_admin
def metrics() -> Data:
    """Summarise all workers and all time kept, or a window of it."""
    return _success(parts().answers.ask(_summary, read_window(read_query(WindowQuery))))


@blueprint.get("/performance")
@documented("admin", Success[Data], query=PerformanceQuery, failures=(403,))
@requires_admin
def performance() -> Data:
    """Measure every endpoint, or the one named: counts, seconds, exact quantiles, error rate."""
    query = read_query(PerformanceQuery)
    return _success(parts().answers.ask(_performance, read_window(query), query.endpoint))


@blueprint.get("/usage")
@documented("admin", Success[Data], query=UsageQuery, failures=(403,))
@requires_admin
def usage() -> Data:
    """Count requests per endpoint and user, and predictions per model, over time."""
    query = read_query(UsageQuery)
    window = read_window(query)
    bucket_seconds = query.bucket_seconds or _bucket_seconds(window)
    return _success(asdict(parts().answers.ask(queries.usage, window, bucket_seconds)))


@blueprint.get("/errors")
@documented("admin", Success[Data], query=WindowQuery, failures=(403,))
@requires_admin
def errors() -> Data:
    """Group failures by their cause."""
    window = read_window(read_query(WindowQuery))
    groups = parts().answers.ask(queries.error_groups, window)
    return _success({"items": [asdict(group) for group in groups], "total": len(groups)})


@blueprint.get("/requests/<request_id>")
@documented("admin", Success[Data], failures=(403, 404))
@requires_admin
def request_story(request_id: str) -> Data:
    """Tell the whole story of one request: each attempt with all its lines, in order."""
    attempts = queries.request_story(parts().reader, request_id)
    if not attempts:
        raise RequestNotFoundError("the log holds no request of this id")
    return _success({"request_id": request_id, "attempts": [asdict(a) for a in attempts]})


def _summary(reader: LogReader, window: Window) -> Data:
    """One answer, and not five that were remembered at different times: they must agree."""
    totals = queries.totals(reader, window)
    return {
        "top_endpoints": queries.top_endpoints(reader, window),
        "top_users": queries.top_users(reader, window),
        "performance": _performance(reader, window),
        "total_requests": totals.total_requests,
        "total_users": totals.total_users,
    }


def _performance(reader: LogReader, window: Window, endpoint: str | None = None) -> Data:
    rows = queries.endpoint_performance(reader, window, endpoint)
    return {row.endpoint: asdict(row) for row in rows}


def _bucket_seconds(window: Window) -> int:
    """Choose the step that divides the window into at most 60; a day when it has no start."""
    if window.since is None:
        return _DAY_SECONDS
    until = window.until or datetime.now(UTC)
    wanted = round((until - window.since).total_seconds() / _USAGE_BUCKETS)
    return next((step for step in _BUCKET_SECONDS if step >= wanted), _DAY_SECONDS)


def _success(data: Data) -> Data:
    return {"success": True, "data": data}
