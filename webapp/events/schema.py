"""Every field of an event: the only list.

DuckDB columns, the Parquet schema and the table in the README derive from it.
"""

from typing import Final, Literal, NamedTuple

ColumnType = Literal["TIMESTAMP", "VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "JSON"]


class Field(NamedTuple):
    """One field: its column type in DuckDB, on which lines it stands, and its meaning."""

    name: str
    type: ColumnType
    on: str
    meaning: str


FIELDS: Final[tuple[Field, ...]] = (
    Field("timestamp", "TIMESTAMP", "every line", "UTC, ISO 8601, microseconds, ends in Z"),
    Field("level", "VARCHAR", "every line", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
    Field("logger", "VARCHAR", "every line", "name of the logger"),
    Field("message", "VARCHAR", "every line", "a constant sentence for our events"),
    Field("module", "VARCHAR", "every line", "Python module that wrote the record"),
    Field("function", "VARCHAR", "every line", "function that wrote it, or the one timed"),
    Field("line", "BIGINT", "every line", "line number in that module"),
    Field("event_type", "VARCHAR", "every line", "what happened; `log` for anything else"),
    Field("host", "VARCHAR", "every line", "host name"),
    Field("pid", "BIGINT", "every line", "process id"),
    Field("seq", "BIGINT", "every line", "counts the lines of a process from 1; a gap is a loss"),
    Field(
        "request_id",
        "VARCHAR",
        "in a request",
        "the client's X-Request-ID if it is 8 to 64 of `[A-Za-z0-9._-]`, else a UUIDv7",
    ),
    Field("user_id", "VARCHAR", "in a request", "who, once the token is checked"),
    Field("role", "VARCHAR", "in a request", "user or admin"),
    Field("client_id", "VARCHAR", "request_completed, request_failed", "which API key was used"),
    Field("client_request_id", "VARCHAR", "request_completed, request_failed", "id in a V2 body"),
    Field("method", "VARCHAR", "in a request", "HTTP method"),
    Field("path", "VARCHAR", "in a request", "path as sent, without the query string"),
    Field("route", "VARCHAR", "in a request", "route template, or <unmatched>"),
    Field("client_ip", "VARCHAR", "in a request", "client address, through trusted proxies"),
    Field("trace_id", "VARCHAR", "in a request", "W3C trace id, if a valid traceparent came in"),
    Field("span_id", "VARCHAR", "in a request", "W3C parent span id"),
    Field("internal", "BOOLEAN", "in a request", "probes and scrapes; left out of statistics"),
    Field("query_params", "JSON", "request_started", "query string, redacted"),
    Field("user_agent", "VARCHAR", "request_started", "User-Agent header"),
    Field("status_code", "BIGINT", "request_completed, request_failed", "HTTP status"),
    Field("duration", "DOUBLE", "whatever was timed", "seconds"),
    Field("request_bytes", "BIGINT", "request_completed, request_failed", "body bytes declared"),
    Field("response_bytes", "BIGINT", "request_completed, request_failed", "body bytes sent"),
    Field("db_queries", "BIGINT", "request_completed, request_failed", "number of SQL statements"),
    Field("db_duration", "DOUBLE", "request_completed, request_failed", "seconds spent in SQL"),
    Field("db_repeated_query", "VARCHAR", "request_completed", "most repeated statement, if many"),
    Field("db_repeated_count", "BIGINT", "request_completed", "how often it ran"),
    Field("model_id", "VARCHAR", "model and prediction lines", "id of the registered model"),
    Field("model_name", "VARCHAR", "model and prediction lines", "its name"),
    Field("model_version", "BIGINT", "model and prediction lines", "its version"),
    Field("rows", "BIGINT", "prediction", "rows predicted"),
    Field("predict_duration", "DOUBLE", "request_completed", "seconds in the estimator"),
    Field("model_load_duration", "DOUBLE", "request_completed", "seconds loading the model"),
    Field("cache_hit", "BOOLEAN", "request_completed", "the model was already loaded"),
    Field(
        "digest",
        "VARCHAR",
        "model_loaded, model_load_failed, model_struck …",
        "SHA-256 of the artifact",
    ),
    Field("strikes", "DOUBLE", "model_struck, model_quarantined", "its strikes; two quarantine it"),
    Field("engine", "VARCHAR", "prediction, model_loaded", "what ran the model"),
    Field("bytes", "BIGINT", "model_loaded", "size of the artifact"),
    Field("action", "VARCHAR", "user_action, prediction", "login, upload_model, make_prediction …"),
    Field("outcome", "VARCHAR", "user_action, prediction", "success or failure"),
    Field("reason", "VARCHAR", "failures, model_loaded", "code or sentence that says why"),
    Field("email", "VARCHAR", "user_action", "e-mail address of a login or account change"),
    Field("actor", "VARCHAR", "user_action", "cli when done on the command line"),
    Field("details", "JSON", "user_action, model_loaded", "what else belongs to it"),
    Field("error", "VARCHAR", "request_completed, request_failed", "name of the error answered"),
    Field("operation", "VARCHAR", "slow_operation, operation_failed", "name of what was timed"),
    Field("query", "VARCHAR", "slow_query", "SQL text without parameters, ≤ 200 characters"),
    Field("exception_type", "VARCHAR", "exceptions", "class of the exception"),
    Field("exception", "VARCHAR", "exceptions", "traceback, redacted"),
    Field(
        "fingerprint", "VARCHAR", "exceptions", "hash of types and places, of the root cause too"
    ),
    Field("truncated", "BOOLEAN", "cut lines", "true if a long value was cut"),
)

FIELD_NAMES: Final[frozenset[str]] = frozenset(field.name for field in FIELDS)
# What a line has by itself, and no fact can replace.
GIVEN_NAMES: Final[frozenset[str]] = frozenset(
    field.name for field in FIELDS if field.on in ("every line", "in a request")
)

# Event types; `message` is a constant sentence for each.
REQUEST_STARTED: Final = "request_started"
REQUEST_COMPLETED: Final = "request_completed"
REQUEST_FAILED: Final = "request_failed"
USER_ACTION: Final = "user_action"
PREDICTION: Final = "prediction"
SLOW_QUERY: Final = "slow_query"
SLOW_OPERATION: Final = "slow_operation"
OPERATION_FAILED: Final = "operation_failed"
MODEL_LOADED: Final = "model_loaded"
MODEL_LOAD_FAILED: Final = "model_load_failed"
MODEL_STRUCK: Final = "model_struck"
MODEL_QUARANTINED: Final = "model_quarantined"
LOG: Final = "log"

UNMATCHED: Final = "<unmatched>"
# Of the log and of its archive: nobody else reads them.
FOLDER_MODE: Final = 0o750
FILE_MODE: Final = 0o640
ACTIVE_NAME: Final = "app.log"
# A closed segment keeps this name for life: app-<utc>-<pid>.jsonl
SEGMENT_GLOB: Final = "app-*.jsonl"
