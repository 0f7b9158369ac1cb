"""The overview: is the service well, and if not, since when and where."""

import time
from dataclasses import dataclass
from typing import Final

from flask import render_template

from webapp import metrics
from webapp.db.schema import find_problem
from webapp.extensions import db
from webapp.logstore import queries
from webapp.logstore.rows import ModelLoads, ModelUse
from webapp.parts import parts
from webapp.web.pages import charts
from webapp.web.pages.people import emails_of
from webapp.web.pages.span import read_span

_LEAST_SECONDS: Final = 10
_MOST_SECONDS: Final = 600
# A page that stays open may take a hundredth of one core; not all of an answer is measured.
_SHARE: Final = 0.008


@dataclass(frozen=True)
class Readiness:
    """Whether requests can be served and logged, as /readyz tells."""

    state: str
    reasons: list[str]
    dropped: int


def page() -> str:
    """Show the figures of a window, with the change against the one before."""
    started = time.process_time()
    span, ask = read_span(), parts().answers.ask
    now, before = (ask(queries.pulse, window) for window in (span.window, span.before))
    users = ask(queries.users, span.window, 10)
    shown = {
        "span": span,
        "now": now,
        "before": before,
        "charts": charts.overview_charts(span, ask(queries.series, span.window, span.step_seconds)),
        "endpoints": ask(queries.endpoint_performance, span.window),
        "users": users,
        "models": with_loads(
            ask(queries.models, span.window, 10), ask(queries.model_loads, span.window)
        ),
        "slow_queries": ask(queries.slow_queries, span.window, 5),
        "errors": ask(queries.error_groups, span.window, 5),
        "emails": emails_of(row.user_id for row in users),
        "readiness": readiness(),
    }
    return render_template(
        "admin/overview.html", **shown, refresh=refresh_seconds(time.process_time() - started)
    )


def refresh_seconds(cpu_seconds: float) -> int:
    """Choose how long an open page waits until it asks again, from what an answer costs."""
    return round(min(max(cpu_seconds / _SHARE, _LEAST_SECONDS), _MOST_SECONDS))


def readiness() -> Readiness:
    """Tell whether the service can do its work."""
    database, log = find_problem(db.engine), parts().log_handler.check()
    return Readiness(
        "unavailable" if database else "degraded" if log else "ready",
        [f"{name}: {why}" for name, why in (("database", database), ("log", log)) if why],
        metrics.dropped_log_records(),
    )


def with_loads(
    uses: list[ModelUse], loads: list[ModelLoads]
) -> list[tuple[ModelUse, ModelLoads | None]]:
    """Put beside the use of each version of a model how it was loaded."""
    by_version = {(row.model_id, row.model_version): row for row in loads}
    return [(use, by_version.get((use.model_id, use.model_version))) for use in uses]
