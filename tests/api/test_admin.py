"""The figures that admins get are those of the log."""

import numpy as np

from tests.world import World

ROW = [5.1, 3.5, 1.4, 0.2]
PAGES = ("metrics", "performance", "usage", "errors")
PREDICT = "POST /api/v1/predictions/predict"


def test_metrics_count_what_the_log_holds(served: World) -> None:
    served.predict("iris", [ROW])
    served.call("GET", "//readyz")
    ends = [
        event
        for event in served.events()
        if event["event_type"] in {"request_completed", "request_failed"}
        and not event.get("internal")
    ]
    data = served.call("GET", "admin/metrics", served.admin).json["data"]
    assert data["total_requests"] == len(ends)
    assert data["total_users"] == len({e["user_id"] for e in ends if "user_id" in e})
    counts = dict(map(tuple, data["top_endpoints"]))
    predictions = [e for e in ends if e["route"] == "/api/v1/predictions/predict"]
    assert counts[PREDICT] == len(predictions)
    assert dict(map(tuple, data["top_users"]))[served.owner.id] > 0
    figures = data["performance"][PREDICT]
    durations = [event["duration"] for event in predictions]
    for name, share in (("p50", 50), ("p95", 95), ("p99", 99)):
        np.testing.assert_allclose(figures[name], np.percentile(durations, share))
    np.testing.assert_allclose(figures["avg"], np.mean(durations))
    assert (figures["min"], figures["max"]) == (min(durations), max(durations))
    assert figures["error_rate"] == np.mean([e["status_code"] >= 500 for e in predictions])


def test_performance_of_one_endpoint(served: World) -> None:
    served.predict("iris", [ROW])
    response = served.call(
        "GET", "admin/performance", served.admin, query_string={"endpoint": PREDICT}
    )
    assert list(response.json["data"]) == [PREDICT]
    none = served.call("GET", "admin/performance?endpoint=GET+/nothing", served.admin)
    assert none.json["data"] == {}


def test_usage_is_counted_over_time(served: World) -> None:
    served.predict("iris", [ROW])
    data = served.call("GET", "admin/usage?since=1h", served.admin).json["data"]
    assert data["bucket_seconds"] == 60
    assert sum(step["count"] for step in data["endpoints"] if step["name"] == PREDICT) > 0
    assert any(step["name"] == served.owner.id for step in data["users"])
    assert data["models"]


def test_a_window_without_requests_is_empty(served: World) -> None:
    data = served.call("GET", "admin/metrics?until=2020-01-01", served.admin).json["data"]
    assert (data["total_requests"], data["top_endpoints"]) == (0, [])


def test_a_wrong_window_is_refused_with_an_example(served: World) -> None:
    for query in ("since=yesterday", "since=1h&until=2h", "since=1h&since=2h", "from=1h"):
        response = served.call("GET", f"admin/metrics?{query}", served.admin)
        assert response.status_code == 400, query
    assert "15m" in served.call("GET", "admin/metrics?since=x", served.admin).json["message"]


def test_a_time_beyond_the_calendar_is_refused_everywhere(served: World) -> None:
    paths = ("predictions", *(f"admin/{name}" for name in PAGES))
    for path in paths:
        for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
            for name in ("since", "until"):
                query = {name: moment}
                response = served.call("GET", path, served.admin, query_string=query)
                assert response.status_code == 400, (path, query)
                assert response.json["error"] == "InvalidInputError"


def test_a_wrong_time_is_repeated_neither_to_the_client_nor_as_the_reason(served: World) -> None:
    for query in ("since=MySecretValue1", "since=2026-01-02&until=2026-01-01"):
        response = served.call("GET", f"predictions?{query}", served.owner)
        assert response.status_code == 400
        event = served.last_event(response)
        assert event["reason"] == response.json["message"]
        for value in ("MySecretValue1", "2026-01"):
            assert value not in response.get_data(as_text=True)


def test_the_story_of_one_request(served: World) -> None:
    request_id = served.predict("iris", [[1, 2]]).headers["X-Request-ID"]
    response = served.call("GET", f"admin/requests/{request_id}", served.admin)
    (attempt,) = response.json["data"]["attempts"]
    assert [event["message"] for event in attempt["events"]] == [
        "Request started",
        "Prediction failed",
        "Request completed",
    ]
    missing = served.call("GET", "admin/requests/no-such-request", served.admin)
    assert missing.status_code == 404
    assert missing.json["error"] == "RequestNotFoundError"


def test_errors_are_grouped(served: World) -> None:
    response = served.call("GET", "admin/errors", served.admin)
    assert response.status_code == 200
    assert isinstance(response.json["data"]["items"], list)
