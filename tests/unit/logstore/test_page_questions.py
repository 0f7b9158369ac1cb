"""The questions that the admin page asks besides those of the command line."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.log_lines import LOGIN, START, Event, Process, failure, timestamp, write_log
from webapp.logstore import queries
from webapp.logstore.files import Window
from webapp.logstore.reader import LogReader

EPOCH = int(START.timestamp())


def read(log_dir: Path, *events: list[Event]) -> LogReader:
    write_log(log_dir / "app.log", [event for some in events for event in some])
    return LogReader(log_dir)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture
def process() -> Process:
    return Process()


def prediction(outcome: str = "success", **fields: object) -> tuple[str, Event]:
    return "prediction", {"model_id": "m1", "outcome": outcome, "rows": 3} | fields


def action(name: str, **fields: object) -> tuple[str, Event]:
    return "user_action", {"action": name, "outcome": "success"} | fields


def test_an_empty_log_has_no_pulse(tmp_path: Path) -> None:
    reader = LogReader(tmp_path)
    assert queries.pulse(reader) == queries.Pulse(0, 0, 0, 0, 0, 0, None)
    assert queries.pulse(reader).error_rate is None
    assert queries.last_logins(reader) == {}
    assert queries.occurrences(reader, "f1") == []
    for question in (
        queries.series,
        queries.error_series,
        queries.activity,
        queries.actions,
        queries.model_loads,
        queries.recent_requests,
    ):
        assert question(reader) == []


def test_the_pulse_counts_requests_errors_users_and_predictions(
    tmp_path: Path, process: Process
) -> None:
    reader = read(
        tmp_path,
        process.request(duration=0.1, between=[prediction()]),
        process.request(duration=0.3, between=[prediction("failure")], status=400),
        process.request(duration=0.2, status=500, user_id="user-2"),
        process.request(duration=9, route="/readyz", internal=True),
    )
    pulse = queries.pulse(reader)
    assert (pulse.requests, pulse.errors, pulse.users) == (3, 1, 2)
    assert (pulse.predictions, pulse.failed_predictions, pulse.rows) == (2, 1, 3)
    assert pulse.p95 == pytest.approx(0.29)
    assert pulse.error_rate == pytest.approx(1 / 3)


def test_a_series_measures_each_step_that_had_requests(tmp_path: Path, process: Process) -> None:
    reader = read(
        tmp_path,
        process.request(after(1), duration=0.1),
        process.request(after(2), duration=0.3, status=503),
        process.request(after(130), duration=0.5),
    )
    first, last = queries.series(reader, bucket_seconds=60)
    assert (first.start, first.requests, first.errors, first.p50) == (EPOCH, 2, 1, 0.2)
    assert (last.start, last.requests, last.errors, last.p99) == (EPOCH + 120, 1, 0, 0.5)


def test_errors_over_time_add_up_to_their_groups(tmp_path: Path, process: Process) -> None:
    broken = failure()
    twice_told = [("operation_failed", {"level": "ERROR", **broken})]
    reader = read(
        tmp_path,
        process.request(request_id="r1", status=500, between=twice_told, **broken),
        process.request(after(61), request_id="r2", status=500, **broken),
        process.request(after(62), request_id="r3", status=500, **failure(fingerprint="f2")),
    )
    counted = queries.error_series(reader, bucket_seconds=60)
    assert [(one.start - EPOCH, one.name, one.count) for one in counted] == [
        (0, "f1", 1),
        (60, "f1", 1),
        (60, "f2", 1),
    ]
    groups = {group.fingerprint: group.count for group in queries.error_groups(reader)}
    assert groups == {"f1": 2, "f2": 1}


def test_occurrences_of_a_cause_come_once_each_the_newest_first(
    tmp_path: Path, process: Process
) -> None:
    broken = failure()
    twice_told = [("operation_failed", {"level": "ERROR", **broken})]
    loose = process.event(after(2), level="ERROR", **broken)
    reader = read(
        tmp_path,
        process.request(request_id="r1", status=500, between=twice_told, **broken),
        process.request(after(1), request_id="r2", status=500, user_id="user-2", **broken),
        process.request(after(1), request_id="r3", status=500, **failure(fingerprint="f2")),
        [loose],
    )
    found = queries.occurrences(reader, "f1")
    assert [one.request_id for one in found] == [None, "r2", "r1"]
    assert found[1].user_id == "user-2"
    assert found[2].endpoint == "POST /api/v1/predictions/predict"
    assert found[2].status_code == 500
    assert "bad split" in (found[0].exception or "")
    assert len(queries.occurrences(reader, "f1", Window(after(0.5)), limit=1)) == 1


def test_activity_tells_who_did_what_the_newest_first(tmp_path: Path, process: Process) -> None:
    failed = action("login", outcome="failure", reason="wrong", email="eve@example.com")
    reader = read(
        tmp_path,
        process.request(route=LOGIN, between=[action("login", email="ada@example.com")]),
        process.request(after(1), route=LOGIN, status=401, user_id=None, between=[failed]),
        process.request(after(2), between=[action("upload_model", details={"bytes": 9})]),
    )
    upload, refused, login = queries.activity(reader)
    assert (upload.action, upload.details, upload.user_id) == (
        "upload_model",
        '{"bytes":9}',
        "user-1",
    )
    assert (refused.email, refused.reason, refused.client_ip) == (
        "eve@example.com",
        "wrong",
        "10.1.2.3",
    )
    assert queries.activity(reader, action="login", outcome="success") == [login]
    assert queries.activity(reader, user_id="user-1", limit=1) == [upload]
    assert queries.actions(reader) == ["login", "upload_model"]


def test_the_last_login_is_one_that_succeeded(tmp_path: Path, process: Process) -> None:
    reader = read(
        tmp_path,
        process.request(START, duration=0, between=[action("login")]),
        process.request(after(9), duration=0, between=[action("login", outcome="failure")]),
    )
    assert queries.last_logins(reader) == {"user-1": timestamp(START)}


def test_loads_and_hits_of_a_model_are_counted(tmp_path: Path, process: Process) -> None:
    model = {"model_id": "m1", "model_version": 2}
    loads = [("model_loaded", model | {"duration": seconds}) for seconds in (0.2, 0.4)]
    reader = read(
        tmp_path,
        process.request(between=loads, cache_hit=False, **model),
        process.request(cache_hit=True, **model),
    )
    (found,) = queries.model_loads(reader)
    assert (found.model_id, found.model_version, found.loads) == ("m1", 2, 2)
    assert (found.load_avg, found.load_max) == (pytest.approx(0.3), 0.4)
    assert (found.hits, found.lookups) == (1, 2)


def test_recent_requests_of_a_user(tmp_path: Path, process: Process) -> None:
    reader = read(
        tmp_path,
        process.request(request_id="r1", error="NotFound", status=404),
        process.request(after(1), request_id="r2", user_id="user-2"),
        process.request(after(2), request_id="r3"),
    )
    assert [row.request_id for row in queries.recent_requests(reader)] == ["r3", "r2", "r1"]
    last = queries.recent_requests(reader, user_id="user-1")[-1]
    assert (last.request_id, last.status_code, last.error) == ("r1", 404, "NotFound")
