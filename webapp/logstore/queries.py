"""The named questions: each is one parameterised query that returns rows.

The command line, the JSON endpoints and the HTML page only render what stands here. Times are
ISO 8601 in UTC, as in the lines.
"""

# ruff: noqa: S608 - the SQL is made of the constants of this module; values are parameters

from collections.abc import Sequence
from typing import Any, Final

from webapp.events import schema
from webapp.logstore.files import ALL_TIME, Window
from webapp.logstore.filters import Condition
from webapp.logstore.needle import find_events
from webapp.logstore.reader import LogReader
from webapp.logstore.rows import (
    REQUEST_ENDS,
    Action,
    Attempt,
    Count,
    EndpointPerformance,
    ErrorGroup,
    LevelCount,
    Login,
    ModelLoads,
    ModelUse,
    Occurrence,
    PredictionRow,
    Pulse,
    RequestRow,
    SeriesPoint,
    SlowQuery,
    SlowRequest,
    Totals,
    UnfinishedRequest,
    Usage,
    UsageCount,
    UserActivity,
)

# One request is one such line, whatever else it wrote.
_ISO: Final = "'%Y-%m-%dT%H:%M:%S.%fZ'"
_ENDS: Final = f"event_type IN {REQUEST_ENDS}"
_REAL: Final = "internal IS NOT TRUE"
_ENDPOINT: Final = f"concat(method, ' ', coalesce(route, '{schema.UNMATCHED}'))"
REQUESTS: Final = f"(SELECT *, {_ENDPOINT} AS endpoint FROM events WHERE {_ENDS} AND {_REAL})"
ALL_REQUESTS: Final = f"(SELECT *, {_ENDPOINT} AS endpoint FROM events WHERE {_ENDS})"
_FAILED: Final = f"(level IN ('ERROR', 'CRITICAL') OR event_type = '{schema.REQUEST_FAILED}')"
_CAUSE: Final = (
    "coalesce(fingerprint, exception_type, error, regexp_replace(message, '[0-9]+', '#', 'g'))"
)
_ONE_FAILURE: Final = "coalesce(request_id, concat_ws(' ', host, pid, seq, timestamp))"
# What ``traceback`` writes before the frames, and between an exception and what it came from.
_TRACE_BEGINS: Final = "Traceback (most recent call last):"
_DIRECT_CAUSE: Final = (
    "\n\nThe above exception was the direct cause of the following exception:\n\n"
)
_HANDLED: Final = "\n\nDuring handling of the above exception, another exception occurred:\n\n"
# The step of $1 seconds that an event falls into, as Unix time.
_STEP: Final = "epoch(time_bucket(to_seconds($1), timestamp, TIMESTAMP '1970-01-01'))::BIGINT"


def _given(*conditions: tuple[str, Any]) -> Condition:
    """Join the conditions that have a value.

    Written out only where they apply: DuckDB cannot look for ``? IS NULL OR …`` in the
    statistics of a Parquet file.
    """
    given = [(sql, value) for sql, value in conditions if value is not None]
    return Condition(" AND ".join(sql for sql, _ in given) or "true", tuple(v for _, v in given))


def _limit(rows: int | None) -> str:
    """Write a limit; as a parameter it would make DuckDB sort everything."""
    return "" if rows is None else f"LIMIT {int(rows)}"


def endpoint_performance(
    reader: LogReader,
    window: Window = ALL_TIME,
    endpoint: str | None = None,
    include_internal: bool = False,
) -> list[EndpointPerformance]:
    """Measure each endpoint, or one; ``error_rate`` is the share with a status ≥ 500.

    Quantiles interpolate linearly between the nearest ranks (Hyndman & Fan type 7, the
    default of NumPy).
    """
    source = ALL_REQUESTS if include_internal else REQUESTS
    only = _given(("endpoint = ?", endpoint))
    # All quantiles by one aggregate, which holds the durations once.
    sql = f"""
        SELECT endpoint, n, mean, low, high, q[1], q[2], q[3], failures / n
        FROM (
            SELECT endpoint, count(*) AS n, avg(duration) AS mean, min(duration) AS low,
                   max(duration) AS high, quantile_cont(duration, [0.5, 0.95, 0.99]) AS q,
                   count(*) FILTER (status_code >= 500) AS failures
            FROM {source} WHERE duration IS NOT NULL AND {only.sql} GROUP BY endpoint
        )
        ORDER BY n DESC, endpoint
    """
    return [EndpointPerformance(*row) for row in reader.rows(sql, only.parameters, window)]


def top_endpoints(
    reader: LogReader, window: Window = ALL_TIME, limit: int | None = 10
) -> list[tuple[str, int]]:
    """Count the requests of the most used endpoints."""
    return _top(reader, "endpoint", window, limit)


def top_users(
    reader: LogReader, window: Window = ALL_TIME, limit: int | None = 10
) -> list[tuple[str, int]]:
    """Count the requests of the most active users."""
    return _top(reader, "user_id", window, limit)


def _top(
    reader: LogReader, column: str, window: Window, limit: int | None
) -> list[tuple[str, int]]:
    sql = f"""
        SELECT {column}, count(*) FROM {REQUESTS} WHERE {column} IS NOT NULL
        GROUP BY 1 ORDER BY 2 DESC, 1 {_limit(limit)}
    """
    return [(name, count) for name, count in reader.rows(sql, (), window)]


def totals(reader: LogReader, window: Window = ALL_TIME) -> Totals:
    """Count requests and the distinct users who made them."""
    sql = f"SELECT count(*), count(DISTINCT user_id) FROM {REQUESTS}"
    return Totals(*reader.rows(sql, (), window)[0])


def usage(reader: LogReader, window: Window = ALL_TIME, bucket_seconds: int = 3600) -> Usage:
    """Count requests per endpoint and user, and predictions per model, over time."""
    sql = f"""
        WITH uses AS (
            SELECT time_bucket(to_seconds($1), timestamp, TIMESTAMP '1970-01-01') AS start,
                   CASE WHEN {_ENDS} THEN {_ENDPOINT} END AS endpoint,
                   CASE WHEN {_ENDS} THEN user_id END AS "user",
                   CASE WHEN event_type = '{schema.PREDICTION}' THEN model_id END AS model
            FROM events WHERE ({_ENDS} OR event_type = '{schema.PREDICTION}') AND {_REAL}
        )
        SELECT strftime(start, {_ISO}), endpoint, "user", model, count(*) FROM uses
        GROUP BY GROUPING SETS ((start, endpoint), (start, "user"), (start, model))
        HAVING coalesce(endpoint, "user", model) IS NOT NULL
        ORDER BY start, count(*) DESC, endpoint, "user", model
    """
    result = Usage(bucket_seconds)
    for start, endpoint, user, model, count in reader.rows(sql, [bucket_seconds], window):
        counts = result.endpoints if endpoint else result.users if user else result.models
        counts.append(UsageCount(start, endpoint or user or model, count))
    return result


def error_groups(
    reader: LogReader,
    window: Window = ALL_TIME,
    limit: int | None = 50,
    user_id: str | None = None,
) -> list[ErrorGroup]:
    """Group failures by fingerprint, the most frequent first.

    A failure is a line at ERROR or above. Without an exception the error that was answered
    names it, or else the message with its numbers taken out. A failing probe is a failure too.
    """
    only = _given(("user_id = ?", user_id))
    sql = f"""
        WITH failures AS (
            SELECT coalesce(fingerprint, exception_type, error,
                            regexp_replace(message, '[0-9]+', '#', 'g')) AS cause,
                   coalesce(request_id, concat_ws(' ', host, pid, seq, timestamp)) AS one, *
            FROM events
            WHERE level IN ('ERROR', 'CRITICAL') AND {only.sql}
        ),
        once AS (
            SELECT cause, one, min(timestamp) AS seen, any_value(request_id) AS request_id,
                   any_value(user_id) AS user_id, any_value(exception_type) AS exception_type,
                   any_value(exception) AS exception, any_value(message) AS message,
                   any_value(CASE WHEN route IS NOT NULL THEN {_ENDPOINT} END) AS endpoint
            FROM failures GROUP BY cause, one
        )
        SELECT cause, any_value(exception_type), arg_max(exception, seen), arg_max(message, seen),
               arg_max(endpoint, seen), count(*), count(DISTINCT user_id),
               strftime(min(seen), {_ISO}), strftime(max(seen), {_ISO}), arg_max(request_id, seen)
        FROM once GROUP BY cause ORDER BY count(*) DESC, max(seen) DESC {_limit(limit)}
    """
    return [
        ErrorGroup(cause, kind, _said(exception) or message, *rest)
        for cause, kind, exception, message, *rest in reader.rows(sql, only.parameters, window)
    ]


def _said(exception: str | None) -> str:
    """Take out of a traceback what was raised, and from what in the first place."""
    if not exception:
        return ""
    # What was being handled when it was raised is not why.
    *causes, last = exception.strip().rpartition(_HANDLED)[2].split(_DIRECT_CAUSE)
    said = _headline(last)
    return f"{said}, caused by {_headline(causes[0])}" if causes else said


def _headline(trace: str) -> str:
    """Take the type and the first line of the message out of one exception's traceback."""
    lines = trace.split("\n")
    headlines = (line for line in lines if line[:1].strip() and line != _TRACE_BEGINS)
    return next(headlines, lines[-1].strip())


def request_story(reader: LogReader, request_id: str) -> list[Attempt]:
    """Tell everything that happened under one request id, attempt by attempt."""
    return attempts(find_events(reader, request_id))


def attempts(events: Sequence[dict[str, Any]]) -> list[Attempt]:
    """Tell apart the attempts that used one request id."""
    current: dict[tuple[str, int], Attempt] = {}
    found: list[Attempt] = []
    for event in sorted(events, key=_place):
        _, host, pid, _ = _place(event)
        attempt = current.get((host, pid))
        if attempt is None or _begins_anew(attempt, event):
            attempt = current[host, pid] = Attempt(event["request_id"], host, pid)
            found.append(attempt)
        attempt.events.append(event)
    return found


def _place(event: dict[str, Any]) -> tuple[str, str, int, int]:
    return (
        event["timestamp"],
        str(event.get("host")),
        event.get("pid") or 0,
        event.get("seq") or 0,
    )


def _begins_anew(attempt: Attempt, event: dict[str, Any]) -> bool:
    event_type = event.get("event_type")
    return event_type == schema.REQUEST_STARTED or (
        event_type in REQUEST_ENDS and attempt.end is not None
    )


def predictions(
    reader: LogReader,
    user_id: str | None,
    page: int = 1,
    per_page: int | None = 20,
    window: Window = ALL_TIME,
    *,
    model: str | None = None,
    failed: bool = False,
) -> tuple[list[PredictionRow], int]:
    """List the predictions of a user (None: of all), newest first, and count them all."""
    mine = _given(
        ("event_type = ?", schema.PREDICTION),
        ("user_id = ?", user_id),
        ("? IN (model_id, model_name)", model),
        ("outcome = ?", "failure" if failed else None),
    )
    sql = f"""
        SELECT strftime(events.timestamp, {_ISO}), request_id, user_id, model_id, model_name,
               model_version, "rows", duration, outcome, reason
        FROM events WHERE {mine.sql}
        ORDER BY events.timestamp DESC, host, pid, seq DESC
        {_limit(per_page)} OFFSET {(page - 1) * (per_page or 0)}
    """
    rows = [PredictionRow(*row) for row in reader.rows(sql, mine.parameters, window)]
    count = f"SELECT count(*) FROM events WHERE {mine.sql}"
    return rows, reader.rows(count, mine.parameters, window)[0][0]


def search(
    reader: LogReader, condition: Condition, window: Window = ALL_TIME, limit: int | None = None
) -> list[dict[str, Any]]:
    """Find the newest events that meet a condition, in the order of time."""
    order = "timestamp DESC, host DESC, pid DESC, seq DESC"
    found = reader.events(condition.sql, condition.parameters, window, order=order, limit=limit)
    return found[::-1]


def slow_requests(
    reader: LogReader,
    window: Window = ALL_TIME,
    limit: int | None = 20,
    user_id: str | None = None,
) -> list[SlowRequest]:
    """List the slowest requests."""
    only = _given(("user_id = ?", user_id))
    sql = f"""
        SELECT strftime(timestamp, {_ISO}), endpoint, duration, status_code, db_duration,
               predict_duration, model_load_duration, user_id, request_id
        FROM {REQUESTS} WHERE duration IS NOT NULL AND {only.sql}
        ORDER BY duration DESC, timestamp {_limit(limit)}
    """
    return [SlowRequest(*row) for row in reader.rows(sql, only.parameters, window)]


def levels(reader: LogReader, window: Window = ALL_TIME) -> list[LevelCount]:
    """Count events by level."""
    sql = "SELECT level, count(*) FROM events GROUP BY 1 ORDER BY 2 DESC, 1"
    return [LevelCount(*row) for row in reader.rows(sql, (), window)]


def logins(
    reader: LogReader,
    window: Window = ALL_TIME,
    limit: int | None = None,
    *,
    email: str | None = None,
    failed: bool = False,
) -> list[Login]:
    """List attempts to log in, the newest last."""
    only = _given(
        ("event_type = ?", schema.USER_ACTION),
        ("action = ?", "login"),
        ("lower(email) = lower(?)", email),
        ("outcome = ?", "failure" if failed else None),
    )
    sql = f"""
        SELECT strftime(events.timestamp, {_ISO}), email, outcome, reason, client_ip, user_id,
               request_id
        FROM events WHERE {only.sql}
        ORDER BY events.timestamp DESC, seq DESC {_limit(limit)}
    """
    found = reader.rows(sql, only.parameters, window)
    return [Login(*row) for row in reversed(found)]


def users(
    reader: LogReader, window: Window = ALL_TIME, limit: int | None = 20
) -> list[UserActivity]:
    """List the most active users."""
    prediction = f"event_type = '{schema.PREDICTION}'"
    sql = f"""
        SELECT user_id, count(*) FILTER ({_ENDS}) AS requests,
               count(*) FILTER ({_ENDS} AND status_code >= 400), count(*) FILTER ({prediction}),
               strftime(min(timestamp), {_ISO}), strftime(max(timestamp), {_ISO})
        FROM events
        WHERE user_id IS NOT NULL AND ({_ENDS} OR {prediction}) AND {_REAL}
        GROUP BY user_id ORDER BY requests DESC, user_id {_limit(limit)}
    """
    return [UserActivity(*row) for row in reader.rows(sql, (), window)]


def models(reader: LogReader, window: Window = ALL_TIME, limit: int | None = 20) -> list[ModelUse]:
    """List the models that were asked most, version by version."""
    good = "FILTER (outcome = 'success')"
    sql = f"""
        SELECT arg_max(model_name, timestamp), model_version, model_id, count(*),
               count(*) FILTER (outcome = 'failure'), sum("rows") {good},
               quantile_cont(duration, 0.5) {good}, quantile_cont(duration, 0.95) {good},
               strftime(max(timestamp), {_ISO})
        FROM events WHERE event_type = '{schema.PREDICTION}' AND model_id IS NOT NULL
        GROUP BY model_id, model_version
        ORDER BY count(*) DESC, model_id, model_version {_limit(limit)}
    """
    return [ModelUse(*row) for row in reader.rows(sql, (), window)]


def slow_queries(
    reader: LogReader, window: Window = ALL_TIME, limit: int | None = 20
) -> list[SlowQuery]:
    """Group slow SQL statements by their text, the most seconds first."""
    sql = f"""
        SELECT query, count(*), sum(duration) AS total, avg(duration), max(duration),
               strftime(max(timestamp), {_ISO}), arg_max(request_id, duration)
        FROM events WHERE event_type = '{schema.SLOW_QUERY}'
        GROUP BY query ORDER BY total DESC, query {_limit(limit)}
    """
    return [SlowQuery(*row) for row in reader.rows(sql, (), window)]


def unfinished(
    reader: LogReader,
    window: Window = ALL_TIME,
    limit: int | None = 20,
    user_id: str | None = None,
) -> list[UnfinishedRequest]:
    """List requests that started in the window and never completed, the newest last."""
    started = f"event_type = '{schema.REQUEST_STARTED}'"
    # The end of a request may lie after the window.
    only = _given(("events.timestamp < ?", window.utc()[1]), ("user_id = ?", user_id))
    # Grouped by a hash: millions of ids as text would not fit the memory that a query may use.
    one = "hash(request_id, host, pid)"
    sql = f"""
        SELECT strftime(max(events.timestamp), {_ISO}), any_value({_ENDPOINT}), any_value(path),
               any_value(user_id), host, pid, request_id
        FROM events WHERE {started} AND {only.sql} AND {one} IN (
            SELECT {one} FROM events WHERE {started} OR {_ENDS}
            GROUP BY 1 HAVING sum(CASE WHEN {started} THEN 1 ELSE -1 END) > 0
        )
        GROUP BY request_id, host, pid ORDER BY 1 DESC {_limit(limit)}
    """
    found = reader.rows(sql, only.parameters, Window(window.since))
    return [UnfinishedRequest(*row) for row in reversed(found)]


def pulse(reader: LogReader, window: Window = ALL_TIME) -> Pulse:
    """Sum up a stretch of time: requests, errors, users, predictions."""
    prediction = f"event_type = '{schema.PREDICTION}'"
    sql = f"""
        SELECT count(*) FILTER ({_ENDS}), count(*) FILTER ({_ENDS} AND status_code >= 500),
               count(DISTINCT user_id) FILTER ({_ENDS}), count(*) FILTER ({prediction}),
               count(*) FILTER ({prediction} AND outcome = 'failure'),
               coalesce(sum("rows") FILTER ({prediction} AND outcome = 'success'), 0)::BIGINT,
               quantile_cont(duration, 0.95) FILTER ({_ENDS})
        FROM events WHERE ({_ENDS} OR {prediction}) AND {_REAL}
    """
    return Pulse(*reader.rows(sql, (), window)[0])


def series(
    reader: LogReader, window: Window = ALL_TIME, bucket_seconds: int = 60
) -> list[SeriesPoint]:
    """Measure the requests of each step of time in which there were any."""
    sql = f"""
        SELECT {_STEP}, count(*), count(*) FILTER (status_code >= 500),
               quantile_cont(duration, 0.5), quantile_cont(duration, 0.95),
               quantile_cont(duration, 0.99)
        FROM {REQUESTS} GROUP BY 1 ORDER BY 1
    """
    return [SeriesPoint(*row) for row in reader.rows(sql, [bucket_seconds], window)]


def error_series(
    reader: LogReader, window: Window = ALL_TIME, bucket_seconds: int = 60
) -> list[Count]:
    """Count failures by cause over time, each as often as ``error_groups`` counts it."""
    sql = f"""
        WITH once AS (
            SELECT {_CAUSE} AS cause, {_ONE_FAILURE} AS one, min(timestamp) AS timestamp
            FROM events WHERE {_FAILED} GROUP BY cause, one
        )
        SELECT {_STEP}, cause, count(*) FROM once GROUP BY 1, 2 ORDER BY 1, 2
    """
    return [Count(*row) for row in reader.rows(sql, [bucket_seconds], window)]


def occurrences(
    reader: LogReader, cause: str, window: Window = ALL_TIME, limit: int | None = 50
) -> list[Occurrence]:
    """List the failures of one cause, as ``error_groups`` names it, the newest first."""
    sql = f"""
        SELECT strftime(min(events.timestamp), {_ISO}) AS seen, any_value(request_id),
               any_value(user_id), any_value(CASE WHEN route IS NOT NULL THEN {_ENDPOINT} END),
               max(status_code), any_value(message), any_value(exception), any_value(client_ip)
        FROM events WHERE {_FAILED} AND {_CAUSE} = $1
        GROUP BY {_ONE_FAILURE} ORDER BY seen DESC LIMIT $2
    """
    return [Occurrence(*row) for row in reader.rows(sql, [cause, limit], window)]


def activity(
    reader: LogReader,
    window: Window = ALL_TIME,
    limit: int | None = 50,
    *,
    action: str | None = None,
    outcome: str | None = None,
    user_id: str | None = None,
) -> list[Action]:
    """List what people did and tried to do, the newest first."""
    sql = f"""
        SELECT strftime(events.timestamp, {_ISO}), action, outcome, reason, user_id, email, actor,
               model_id, model_name, model_version, details::VARCHAR, client_ip, request_id
        FROM events WHERE event_type = '{schema.USER_ACTION}' AND ($1 IS NULL OR action = $1)
          AND ($2 IS NULL OR outcome = $2) AND ($3 IS NULL OR user_id = $3)
        ORDER BY events.timestamp DESC, host, pid, seq DESC LIMIT $4
    """
    parameters = [action, outcome, user_id, limit]
    return [Action(*row) for row in reader.rows(sql, parameters, window)]


def actions(reader: LogReader, window: Window = ALL_TIME) -> list[str]:
    """List the actions that were done, by name."""
    sql = f"""
        SELECT DISTINCT action FROM events
        WHERE event_type = '{schema.USER_ACTION}' AND action IS NOT NULL ORDER BY 1
    """
    return [name for (name,) in reader.rows(sql, (), window)]


def last_logins(reader: LogReader, window: Window = ALL_TIME) -> dict[str, str]:
    """Tell when each user last logged in."""
    sql = f"""
        SELECT user_id, strftime(max(timestamp), {_ISO}) FROM events
        WHERE event_type = '{schema.USER_ACTION}' AND action = 'login' AND outcome = 'success'
          AND user_id IS NOT NULL
        GROUP BY user_id
    """
    return dict(reader.rows(sql, (), window))


def last_used_clients(reader: LogReader, user_id: str, window: Window = ALL_TIME) -> dict[str, str]:
    """Tell when each API key of a user was last used, by the key's id."""
    sql = f"""
        SELECT client_id, strftime(max(events.timestamp), {_ISO}) FROM events
        WHERE client_id IS NOT NULL AND user_id = ? GROUP BY client_id
    """
    return dict(reader.rows(sql, [user_id], window))


def model_loads(reader: LogReader, window: Window = ALL_TIME) -> list[ModelLoads]:
    """Tell how often each version of a model had to be loaded, and how long that took."""
    loaded = f"FILTER (event_type = '{schema.MODEL_LOADED}')"
    sql = f"""
        SELECT model_id, model_version, count(*) {loaded}, avg(duration) {loaded},
               max(duration) {loaded}, count(*) FILTER ({_ENDS} AND cache_hit),
               count(*) FILTER ({_ENDS} AND cache_hit IS NOT NULL)
        FROM events
        WHERE model_id IS NOT NULL AND ({_ENDS} OR event_type = '{schema.MODEL_LOADED}')
        GROUP BY model_id, model_version
    """
    return [ModelLoads(*row) for row in reader.rows(sql, (), window)]


def recent_requests(
    reader: LogReader,
    window: Window = ALL_TIME,
    limit: int | None = 50,
    *,
    user_id: str | None = None,
) -> list[RequestRow]:
    """List the requests that ended last, the newest first."""
    sql = f"""
        SELECT strftime(timestamp, {_ISO}) AS ended, endpoint, path, status_code, duration, error,
               request_id
        FROM {REQUESTS} WHERE ($1 IS NULL OR user_id = $1)
        ORDER BY ended DESC, seq DESC LIMIT $2
    """
    return [RequestRow(*row) for row in reader.rows(sql, [user_id, limit], window)]
