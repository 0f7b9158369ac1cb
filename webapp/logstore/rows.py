"""The rows that the named questions return; times are ISO 8601 in UTC, as in the lines."""

from dataclasses import dataclass, field
from typing import Any, Final

from webapp.events import schema

# One request ends in one such line, whatever else it wrote.
REQUEST_ENDS: Final = (schema.REQUEST_COMPLETED, schema.REQUEST_FAILED)


@dataclass(frozen=True)
class EndpointPerformance:
    """How long one endpoint took; durations in seconds, quantiles exact."""

    endpoint: str
    count: int
    avg: float
    min: float
    max: float
    p50: float
    p95: float
    p99: float
    error_rate: float


@dataclass(frozen=True)
class Totals:
    """Requests, and distinct users who made them."""

    total_requests: int
    total_users: int


@dataclass(frozen=True)
class UsageCount:
    """How often something was used in the seconds that begin at ``start`` (UTC)."""

    start: str
    name: str
    count: int


@dataclass(frozen=True)
class Usage:
    """Counts over time: requests per endpoint and user, predictions per model."""

    bucket_seconds: int
    endpoints: list[UsageCount] = field(default_factory=list)
    users: list[UsageCount] = field(default_factory=list)
    models: list[UsageCount] = field(default_factory=list)


@dataclass(frozen=True)
class ErrorGroup:
    """Failures with one cause; a request counts once, however many lines it wrote."""

    fingerprint: str
    exception_type: str | None
    message: str
    endpoint: str | None
    count: int
    users: int
    first_seen: str
    last_seen: str
    sample_request_id: str | None


@dataclass
class Attempt:
    """One use of a request id: clients repeat ids when they try again."""

    request_id: str
    host: str
    pid: int
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def end(self) -> dict[str, Any] | None:
        """The line that ended it, or None if it never ended."""
        return next((e for e in self.events if e.get("event_type") in REQUEST_ENDS), None)


@dataclass(frozen=True)
class PredictionRow:
    """One prediction that was asked for."""

    timestamp: str
    request_id: str | None
    user_id: str | None
    model_id: str | None
    model_name: str | None
    model_version: int | None
    rows: int | None
    duration: float | None
    outcome: str | None
    reason: str | None


@dataclass(frozen=True)
class SlowRequest:
    """One request and where its seconds went."""

    timestamp: str
    endpoint: str
    duration: float
    status_code: int | None
    db_duration: float | None
    predict_duration: float | None
    model_load_duration: float | None
    user_id: str | None
    request_id: str | None


@dataclass(frozen=True)
class LevelCount:
    """How many events have a level."""

    level: str | None
    count: int
