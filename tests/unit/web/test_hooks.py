"""Every request becomes one event, whatever is sent and however it ends."""

import base64
import logging
import threading
from typing import Any

import pytest
from flask import request, stream_with_context

from tests.world import World
from webapp.services import accounts

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_context_that_is_kept_does_not_end_its_request_twice(world: World) -> None:
    with world.client as client:
        response = client.get("/api/v1/auth/me")
        assert request.path == "/api/v1/auth/me", "the context is still there"
    types = [event["event_type"] for event in world.events()]
    assert types == ["request_started", "request_completed"]
    assert world.last_event(response)["status_code"] == 401


def test_the_clients_request_id_is_kept(world: World) -> None:
    for sent in ("client-1", "a" * 64, "A.b_c-9.."):
        response = world.call("GET", "auth/me", headers={"X-Request-ID": sent})
        assert response.headers["X-Request-ID"] == sent
        assert len(world.events(response)) == 2


@pytest.mark.parametrize("sent", ["pel_0123456789", "x-PEL_0123456789", "eyJhbGciOi.eyJzdWIi.x"])
def test_a_request_id_shaped_like_a_token_is_replaced(world: World, sent: str) -> None:
    response = world.call("GET", "auth/me", headers={"X-Request-ID": sent})
    assert response.headers["X-Request-ID"] != sent
    assert len(world.events(response)) == 2


@pytest.mark.parametrize(
    ("sent", "known"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
        (f"00-{TRACE}-{SPAN}-01-too-much", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE}-{SPAN}", False),
        ("", False),
        (
            f"01-{TRACE}-{SPAN}-01-x,00-{TRACE}-{SPAN}-01",
            False,
        ),  # two headers, as the server joins them
    ],
)
def test_a_valid_traceparent_stands_on_the_lines(world: World, sent: str, known: bool) -> None:
    completed = world.last_event(world.call("GET", "auth/me", headers={"traceparent": sent}))
    found = (completed.get("trace_id"), completed.get("span_id"))
    assert found == ((TRACE, SPAN) if known else (None, None))


def test_a_query_string_is_written_without_its_secrets(world: World) -> None:
    response = world.call("GET", "models?page=2&tag=a&tag=b&access_token=hunter2hunter2")
    (started,) = world.events(response, event_type="request_started")
    assert started["query_params"] == {
        "page": ["2"],
        "tag": ["a", "b"],
        "access_token": "[redacted]",
    }


@pytest.mark.parametrize(
    ("where", "sent"),
    [
        ("headers", {"Authorization": "Digest hunter2hunter2"}),
        ("headers", {"Authorization": "hunter2hunter2"}),
        ("headers", {"Proxy-Authorization": "Custom hunter2hunter2"}),
        ("headers", {"X-Api-Key": "hunter2hunter2"}),
        ("headers", {"X-Auth-Token": "hunter2hunter2"}),
        ("headers", {"Cookie": "a=1; session=hunter2hunter2"}),
        (
            "headers",
            {"Authorization": f"Basic {base64.b64encode(b'user:hunter2hunter2').decode()}"},
        ),
        ("query_string", {"api_key": "hunter2hunter2"}),
        ("json", {"email": "a@example.com", "password": "hunter2hunter2"}),
    ],
)
def test_what_was_sent_as_a_secret_is_known_by_value_afterwards(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str, sent: dict[str, str]
) -> None:
    def explode(*args: Any) -> None:
        logging.getLogger("a.library").warning("it was hunter2hunter2")
        raise RuntimeError("hunter2hunter2 and nothing else")

    monkeypatch.setattr(accounts, "authenticate", explode)
    body = {"email": "a@example.com", "password": "another one"}
    client = world.app.test_client(use_cookies=False)
    options: dict[str, Any] = {"json": body} | {where: sent}
    response = client.post("/api/v1/auth/login", **options)
    assert response.status_code == 500
    assert "RuntimeError: [redacted]" in world.last_event(response)["exception"]
    assert "hunter2" not in str(world.events())


@pytest.mark.parametrize("path", ["models", "models/iris/download"])
def test_the_last_line_says_how_long_the_body_was(served: World, path: str) -> None:
    with served.call("GET", path, served.owner) as response:
        length = len(response.data)
    completed = served.last_event(response)
    assert (completed["status_code"], completed["response_bytes"]) == (200, length)


def test_a_streamed_answer_ends_when_its_last_byte_has_left(served: World) -> None:
    with served.call("GET", "models/iris/download", served.owner, buffered=False) as response:
        assert served.events(response, event_type="request_completed") == []
        assert next(iter(response.response))
    completed = served.last_event(response)
    assert (completed["status_code"], completed["user_id"]) == (200, served.owner.id)


def test_a_view_that_streams_with_the_context_ends_once(world: World) -> None:
    def stream() -> Any:
        return stream_with_context(str(number) for number in range(3)), 200

    world.app.add_url_rule("/numbers", view_func=stream)
    response = world.client.get("/numbers")
    assert response.get_data() == b"012"
    assert world.last_event(response)["status_code"] == 200


def test_a_failure_after_the_view_is_a_failure(world: World) -> None:
    @world.app.after_request
    def fail(response: Any) -> Any:
        raise RuntimeError("after the view")

    response = world.client.get("/healthz")
    assert response.status_code == 500
    failed = [event for event in world.events() if event["event_type"] == "request_failed"]
    assert len(failed) == 1
    assert "after the view" in failed[0]["exception"]


def test_requests_at_the_same_time_do_not_mix(world: World) -> None:
    def ask(name: str) -> None:
        client = world.app.test_client()
        for number in range(20):
            headers = {"X-Request-ID": f"{name}-{number:06d}"}
            client.get(f"/nothing/{name}/{number}", headers=headers)

    threads = [threading.Thread(target=ask, args=(f"client-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = world.events()
    assert len(events) == 4 * 20 * 2
    for event in events:
        name, _, number = event["request_id"].rpartition("-")
        assert event["path"] == f"/nothing/{name}/{int(number)}"


def test_a_log_that_cannot_be_written_stops_no_request_and_is_told(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    assert world.call("GET", "//readyz").json["status"] == "ready"
    before = world.call("GET", "//readyz").json["log_records_dropped"]
    world.log_dir.rename(world.log_dir.with_name("away"))
    world.log_dir.write_text("not a folder")
    assert world.call("GET", "models", world.owner).status_code == 200
    ready = world.call("GET", "//readyz")
    assert ready.status_code == 200
    assert ready.json["status"] == "degraded"
    assert ready.json["checks"]["log"] == "Not a directory"
    assert ready.json["log_records_dropped"] == before + 2
    assert '"message":"Request completed"' in capfd.readouterr().err
    assert "pellucid_log_records_dropped_total" in world.call("GET", "//metrics").text
    world.log_dir.unlink()
    response = world.call("GET", "models", world.owner)
    assert world.last_event(response)["status_code"] == 200
    assert world.call("GET", "//readyz").json["status"] == "ready"
