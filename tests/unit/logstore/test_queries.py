"""The named questions, each on a log small enough to count by hand."""

import traceback
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.log_lines import LOGIN, START, Event, Process, failure, write_log
from webapp.errors import PredictionError
from webapp.logstore import queries
from webapp.logstore.files import Window
from webapp.logstore.reader import LogReader

PREDICT = "POST /api/v1/predictions/predict"


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def read(log_dir: Path, *events: list[Event]) -> LogReader:
    write_log(log_dir / "app.log", [event for some in events for event in some])
    return LogReader(log_dir)


@pytest.fixture
def process() -> Process:
    return Process()


def prediction(model: str, outcome: str = "success", **fields: object) -> tuple[str, Event]:
    facts = {"action": "make_prediction", "model_id": model, "model_name": model, "rows": 2}
    return "prediction", facts | {"model_version": 1, "outcome": outcome, "duration": 0.1} | fields


def test_an_empty_log_answers_every_question_with_nothing(tmp_path: Path) -> None:
    reader = LogReader(tmp_path)
    assert queries.totals(reader) == queries.Totals(0, 0)
    assert queries.usage(reader, bucket_seconds=60) == queries.Usage(60)
    assert queries.predictions(reader, None) == ([], 0)
    assert queries.request_story(reader, "request-0001") == []
    for question in (
        queries.endpoint_performance,
        queries.top_endpoints,
        queries.top_users,
        queries.error_groups,
        queries.slow_requests,
        queries.levels,
        queries.logins,
        queries.users,
        queries.models,
        queries.slow_queries,
        queries.unfinished,
    ):
        assert question(reader) == []


def test_performance_is_exact(tmp_path: Path, process: Process) -> None:
    durations = [0.1, 0.2, 0.3, 0.4, 1.0]
    reader = read(
        tmp_path,
        *(process.request(duration=seconds, request_id=f"r-{seconds}") for seconds in durations),
    )
    (row,) = queries.endpoint_performance(reader)
    assert (row.endpoint, row.count, row.min, row.max) == (PREDICT, 5, 0.1, 1.0)
    # numpy.quantile of the same five: 0.3, 0.88, 0.976
    assert (row.avg, row.p50, row.p95, row.p99) == pytest.approx((0.4, 0.3, 0.88, 0.976))
    assert row.error_rate == 0.0


def test_a_request_counts_once_and_internal_ones_do_not(tmp_path: Path, process: Process) -> None:
    reader = read(
        tmp_path,
        process.request(request_id="a", between=[prediction("m")]),
        process.request(request_id="b", status=500, between=[("operation_failed", failure())]),
        process.request(request_id="c", route="/readyz", method="GET", internal=True),
        process.request(request_id="d", user_id="user-2", route="/x", method="GET"),
        process.request(request_id="e", user_id=None)[:1],
    )
    assert queries.totals(reader) == queries.Totals(total_requests=3, total_users=2)
    assert queries.top_endpoints(reader) == [(PREDICT, 2), ("GET /x", 1)]
    assert queries.top_users(reader, limit=1) == [("user-1", 2)]
    assert queries.endpoint_performance(reader, endpoint=PREDICT)[0].error_rate == 0.5
    probes = queries.endpoint_performance(reader, endpoint="GET /readyz", include_internal=True)
    assert [row.count for row in probes] == [1]


def test_only_the_window_is_counted(tmp_path: Path, process: Process) -> None:
    reader = read(tmp_path, *(process.request(START + minutes(n)) for n in range(4)))
    window = Window(START + minutes(1), START + minutes(3))
    assert queries.totals(reader, window).total_requests == 2


def test_usage_counts_endpoints_users_and_models_over_time(
    tmp_path: Path, process: Process
) -> None:
    reader = read(
        tmp_path,
        process.request(START, between=[prediction("m")]),
        process.request(START + minutes(1), request_id="b", user_id=None),
        process.request(START + minutes(5), request_id="c", between=[prediction("m")]),
    )
    usage = queries.usage(reader, bucket_seconds=300)
    first, second = "2026-11-23T08:00:00.000000Z", "2026-11-23T08:05:00.000000Z"
    assert [(u.start, u.name, u.count) for u in usage.endpoints] == [
        (first, PREDICT, 2),
        (second, PREDICT, 1),
    ]
    assert [(u.start, u.name, u.count) for u in usage.users] == [
        (first, "user-1", 1),
        (second, "user-1", 1),
    ]
    assert [(u.start, u.name, u.count) for u in usage.models] == [(first, "m", 1), (second, "m", 1)]


def test_a_failure_counts_once_for_a_request_however_many_lines_tell_it(
    tmp_path: Path, process: Process
) -> None:
    first, second = failure("ValueError", "f1"), failure("KeyError", "f2", "'x'")
    operation = ("operation_failed", {"level": "ERROR"} | first)
    reader = read(
        tmp_path,
        process.request(request_id="a", status=500, between=[operation, operation], **first),
        process.request(START + minutes(1), request_id="b", status=500, user_id="u2", **first),
        process.request(START + minutes(2), request_id="c", status=500, **second),
        [process.event(START, level="ERROR", **second)],
    )
    groups = {group.fingerprint: group for group in queries.error_groups(reader)}
    assert {name: group.count for name, group in groups.items()} == {"f1": 2, "f2": 2}
    group = groups["f1"]
    assert (group.exception_type, group.message) == ("ValueError", "ValueError: bad split")
    assert (group.endpoint, group.users, group.sample_request_id) == (PREDICT, 2, "b")
    assert group.first_seen == "2026-11-23T08:00:00.020000Z"
    assert group.last_seen == "2026-11-23T08:01:00.020000Z"
    assert [g.fingerprint for g in queries.error_groups(reader, user_id="u2")] == ["f1"]


def raised(*exceptions: Exception, fingerprint: str = "f1") -> Event:
    """Name what a line says about an exception raised from another, and so on to the last."""
    for error, cause in pairwise(exceptions):
        error.__cause__ = cause
    text = "".join(traceback.format_exception(exceptions[0]))
    return {"exception_type": "X", "exception": text.rstrip(), "fingerprint": fingerprint}


def test_a_group_of_errors_tells_what_they_were_caused_by(tmp_path: Path, process: Process) -> None:
    outer = PredictionError("the model failed on this input")
    caused = raised(outer, KeyError("x"), ValueError("X has 3 features\nmore"), fingerprint="f1")
    alone = raised(ValueError("first line\nand the second"), fingerprint="f2")
    beside = ValueError("after another")
    beside.__context__ = KeyError("forgotten")
    reader = read(
        tmp_path,
        process.request(request_id="a", status=500, **caused),
        process.request(request_id="b", status=500, **alone),
        process.request(request_id="c", status=500, **raised(beside, fingerprint="f3")),
        process.request(
            request_id="d", status=500, **failure("KeyError", "f4") | {"exception": ""}
        ),
    )
    assert {group.fingerprint: group.message for group in queries.error_groups(reader)} == {
        "f1": "webapp.errors.PredictionError: the model failed on this input,"
        " caused by ValueError: X has 3 features",
        "f2": "ValueError: first line",
        "f3": "ValueError: after another",
        "f4": "Request failed",
    }


def test_errors_without_an_exception_are_grouped_by_what_was_answered(
    tmp_path: Path, process: Process
) -> None:
    reader = read(
        tmp_path,
        process.request(request_id="a", status=503, error="ServiceUnavailableError"),
        [process.event(START, level="ERROR", message=f"Worker {n} timed out") for n in (17, 18)],
    )
    groups = {group.fingerprint: group.count for group in queries.error_groups(reader)}
    assert groups == {"ServiceUnavailableError": 1, "Worker # timed out": 2}


def test_a_story_is_told_in_order_from_lines_and_archive(tmp_path: Path, process: Process) -> None:
    reader = read(
        tmp_path,
        process.request(request_id="request-0000"),
        process.request(request_id="request-0001", between=[prediction("m")]),
    )
    (attempt,) = queries.request_story(reader, "request-0001")
    assert [event["event_type"] for event in attempt.events] == [
        "request_started",
        "prediction",
        "request_completed",
    ]
    assert attempt.end is not None
    assert attempt.end["status_code"] == 200


def test_attempts_that_share_an_id_are_told_apart(tmp_path: Path) -> None:
    one, two = Process(pid=1), Process(pid=2)
    overlapping = zip(one.request(duration=5), two.request(duration=3, status=500), strict=True)
    reader = read(
        tmp_path,
        [event for pair in overlapping for event in pair],
        one.request(START + minutes(1), status=400),
        one.request(START + minutes(2))[1:],
    )
    attempts = queries.request_story(reader, "request-0001")
    ends = [(a.pid, a.end["status_code"]) for a in attempts if a.end]
    assert ends == [(1, 200), (2, 500), (1, 400), (1, 200)]


def test_predictions_are_listed_page_by_page_for_their_user_alone(
    tmp_path: Path, process: Process
) -> None:
    requests = [
        process.request(
            START + minutes(n),
            request_id=f"r-{n}",
            user_id="ann" if n % 2 else "bob",
            between=[prediction("m", "failure" if n == 3 else "success")],
        )
        for n in range(6)
    ]
    reader = read(tmp_path, *requests)
    rows, total = queries.predictions(reader, "ann", page=1, per_page=2)
    assert ([row.request_id for row in rows], total) == (["r-5", "r-3"], 3)
    rows, total = queries.predictions(reader, "ann", page=2, per_page=2)
    assert ([row.request_id for row in rows], total) == (["r-1"], 3)
    rows, total = queries.predictions(reader, None, failed=True, per_page=None)
    assert ([row.request_id for row in rows], total) == (["r-3"], 1)
    assert queries.predictions(reader, None, model="other") == ([], 0)


def test_logins_are_found_by_address(tmp_path: Path, process: Process) -> None:
    def login(n: int, email: str, outcome: str) -> list[Event]:
        action = {"action": "login", "outcome": outcome, "email": email}
        return process.request(
            START + minutes(n), route=LOGIN, request_id=f"r-{n}", between=[("user_action", action)]
        )

    reader = read(
        tmp_path,
        login(0, "ann@example.com", "failure"),
        login(1, "ann@example.com", "success"),
        login(2, "bob@example.com", "failure"),
    )
    found = queries.logins(reader, email="Ann@Example.com")
    assert [(row.request_id, row.outcome) for row in found] == [
        ("r-0", "failure"),
        ("r-1", "success"),
    ]
    assert [row.request_id for row in queries.logins(reader, failed=True)] == ["r-0", "r-2"]


def test_slow_requests_come_slowest_first(tmp_path: Path, process: Process) -> None:
    reader = read(
        tmp_path,
        *(process.request(duration=n, request_id=f"r-{n}", user_id=f"u{n}") for n in (1, 3, 2)),
    )
    assert [row.duration for row in queries.slow_requests(reader, limit=2)] == [3, 2]
    assert [row.request_id for row in queries.slow_requests(reader, user_id="u1")] == ["r-1"]


def test_users_and_models_sum_up_what_they_did(tmp_path: Path, process: Process) -> None:
    reader = read(
        tmp_path,
        process.request(request_id="a", between=[prediction("m", duration=0.1)]),
        process.request(request_id="b", between=[prediction("m", duration=0.3)]),
        process.request(request_id="c", status=400, between=[prediction("m", "failure")]),
        process.request(request_id="d", user_id=None),
    )
    (user,) = queries.users(reader)
    assert (user.user_id, user.requests, user.failures, user.predictions) == ("user-1", 3, 1, 3)
    (model,) = queries.models(reader)
    assert (model.model_id, model.predictions, model.failures, model.rows) == ("m", 3, 1, 4)
    assert model.p50 == pytest.approx(0.2)


def test_slow_sql_is_grouped_by_its_text(tmp_path: Path, process: Process) -> None:
    durations = [("SELECT 1", 0.6), ("SELECT 1", 0.8), ("SELECT 2", 1.0)]
    reader = read(
        tmp_path, [process.event(START, "slow_query", query=q, duration=d) for q, d in durations]
    )
    found = [(row.query, row.count, row.total) for row in queries.slow_queries(reader)]
    assert found == [("SELECT 1", 2, pytest.approx(1.4)), ("SELECT 2", 1, 1.0)]


def test_a_request_that_never_completed_is_unfinished(tmp_path: Path) -> None:
    one, two = Process(pid=1), Process(pid=2)
    reader = read(
        tmp_path,
        one.request(request_id="done"),
        one.request(START + minutes(1), request_id="lost")[:1],
        # The same id: the first attempt died with its process, the second one went well.
        one.request(START + minutes(2), request_id="retried")[:1],
        two.request(START + minutes(3), request_id="retried"),
        two.request(START + minutes(4), request_id="long", duration=600),
    )
    found = [(row.request_id, row.pid) for row in queries.unfinished(reader)]
    assert found == [("lost", 1), ("retried", 1)]
    # An end after the window ends the request all the same.
    assert queries.unfinished(reader, Window(START + minutes(4), START + minutes(5))) == []


def test_events_are_counted_by_level(tmp_path: Path, process: Process) -> None:
    levels = ("INFO", "ERROR", "INFO")
    reader = read(tmp_path, [process.event(START, level=level) for level in levels])
    assert [(row.level, row.count) for row in queries.levels(reader)] == [("INFO", 2), ("ERROR", 1)]
