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


@dataclass(frozen=True)
class Login:
    """One attempt to log in."""

    timestamp: str
    email: str | None
    outcome: str | None
    reason: str | None
    client_ip: str | None
    user_id: str | None
    request_id: str | None


@dataclass(frozen=True)
class UserActivity:
    """What one user did; failures are answers with a status of 400 or more."""

    user_id: str
    requests: int
    failures: int
    predictions: int
    first_seen: str
    last_seen: str


@dataclass(frozen=True)
class ModelUse:
    """How one version of a model was used; durations of predictions that succeeded."""

    model_name: str | None
    model_version: int | None
    model_id: str
    predictions: int
    failures: int
    rows: int | None
    p50: float | None
    p95: float | None
    last_used: str


@dataclass(frozen=True)
class SlowQuery:
    """One SQL statement that was slow, and how often; durations in seconds."""

    query: str | None
    count: int
    total: float
    avg: float
    max: float
    last_seen: str
    sample_request_id: str | None


@dataclass(frozen=True)
class UnfinishedRequest:
    """A request that started and never completed: its worker died, or is at it still."""

    timestamp: str
    endpoint: str | None
    path: str | None
    user_id: str | None
    host: str
    pid: int
    request_id: str


@dataclass(frozen=True)
class Check:
    """What was found in a file, or in the numbers of a process."""

    kind: str
    name: str
    events: int
    bytes: int | None
    invalid_lines: int | None
    missing: int | None
    duplicates: int | None
    first_seen: str | None
    last_seen: str | None
    detail: str = ""


@dataclass(frozen=True)
class Storage:
    """What one kind of file holds."""

    kind: str
    files: int
    events: int
    invalid_lines: int
    bytes: int
    first_seen: str | None
    last_seen: str | None


@dataclass(frozen=True)
class Pulse:
    """What a stretch of time comes to, in the few figures that one looks at first."""

    requests: int
    errors: int  # answers with a status ≥ 500, as in ``error_rate``
    users: int
    predictions: int
    failed_predictions: int
    rows: int
    p95: float | None

    @property
    def error_rate(self) -> float | None:
        """The share of requests answered with a status ≥ 500."""
        return self.errors / self.requests if self.requests else None


@dataclass(frozen=True)
class SeriesPoint:
    """The requests that ended in the seconds that begin at ``start`` (Unix time)."""

    start: int
    requests: int
    errors: int
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True)
class Count:
    """How many of something fell into the seconds that begin at ``start`` (Unix time)."""

    start: int
    name: str
    count: int


@dataclass(frozen=True)
class Occurrence:
    """One request, or one line outside of any, that failed with a certain cause."""

    timestamp: str
    request_id: str | None
    user_id: str | None
    endpoint: str | None
    status_code: int | None
    message: str
    exception: str | None
    client_ip: str | None


@dataclass(frozen=True)
class Action:
    """What somebody did, or tried to do."""

    timestamp: str
    action: str | None
    outcome: str | None
    reason: str | None
    user_id: str | None
    email: str | None
    actor: str | None
    model_id: str | None
    model_name: str | None
    model_version: int | None
    details: str | None  # JSON
    client_ip: str | None
    request_id: str | None


@dataclass(frozen=True)
class ModelLoads:
    """How often one version was loaded, and how often it was there already; seconds."""

    model_id: str
    model_version: int | None
    loads: int
    load_avg: float | None
    load_max: float | None
    hits: int
    lookups: int


@dataclass(frozen=True)
class RequestRow:
    """One request by its end."""

    timestamp: str
    endpoint: str
    path: str | None
    status_code: int | None
    duration: float | None
    error: str | None
    request_id: str | None
