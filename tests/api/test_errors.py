"""Failures have one form, whatever went wrong, and each has its line."""

import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tests.estimators import diabetes_ridge, dumped, iris_pipeline
from tests.world import PASSWORD, World
from webapp.errors import ThrottledError
from webapp.extensions import db
from webapp.services import accounts
from webapp.services.predictions import Predictions


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "//nothing/here", 404, "NotFound"),
        ("GET", "nothing", 404, "NotFound"),
        ("DELETE", "auth/login", 405, "MethodNotAllowed"),
        ("FOO", "auth/login", 405, "MethodNotAllowed"),
        ("GET", "//static/../../instance/jwt_secret_key", 404, "NotFound"),
    ],
)
def test_unknown_routes_and_methods_are_answered_in_our_form(
    world: World, method: str, path: str, status: int, error: str
) -> None:
    response = world.call(method, path)
    assert response.status_code == status
    assert response.json == {
        "success": False,
        "error": error,
        "message": response.json["message"],
        "details": {},
        "request_id": response.headers["X-Request-ID"],
    }
    completed = world.last_event(response)
    assert (completed["error"], completed["status_code"]) == (error, status)


def test_unmatched_paths_share_one_route(world: World) -> None:
    assert world.last_event(world.call("GET", "//a"))["route"] == "<unmatched>"


def test_a_method_that_is_not_allowed_is_told_what_is(world: World) -> None:
    assert "POST" in world.call("GET", "auth/login").headers["Allow"]


MLFLOW = ["error_code", "message", "request_id"]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("v2/nothing", ["error"]),
        ("v1", ["error"]),
        ("v1/", ["error"]),
        ("v1/models", ["error"]),
        ("invocations", MLFLOW),
        ("invocations/", MLFLOW),
        ("invocations/a/b", MLFLOW),
        ("v2x", ["success", "error", "message", "details", "request_id"]),
    ],
)
def test_paths_of_other_protocols_have_their_form(world: World, path: str, form: list[str]) -> None:
    response = world.call("GET", f"//{path}")
    assert response.status_code == 404
    assert list(response.json) == form


@pytest.mark.parametrize(
    ("method", "path", "form"),
    [
        ("DELETE", "v2", ["error"]),
        ("GET", "v2/models/iris/infer", ["error"]),
        ("PUT", "v1/models/iris", ["error"]),
        ("GET", "invocations/iris", MLFLOW),
    ],
)
def test_a_wrong_method_is_told_in_the_form_of_the_path(
    world: World, method: str, path: str, form: list[str]
) -> None:
    response = world.call(method, f"//{path}")
    assert (response.status_code, list(response.json)) == (405, form)
    assert response.headers["Allow"]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("v2/models/iris/infer", ["error"]),
        ("v1/models/iris:predict", ["error"]),
        ("invocations/iris", MLFLOW),
    ],
)
def test_every_failure_has_the_form_of_its_path(
    served: World, monkeypatch: pytest.MonkeyPatch, path: str, form: list[str]
) -> None:
    def ask(status: int, token: str = served.owner.access_token, **options: Any) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        response = served.call("POST", f"//{path}", headers=headers, **options)
        assert (response.status_code, list(response.json)) == (status, form)

    ask(401, "nonsense")
    ask(400, data=b"{broken", content_type="application/json")
    ask(415, data=b"{}", content_type="image/png")
    monkeypatch.setitem(served.app.config, "MAX_CONTENT_LENGTH", 10)
    ask(413, data=b"[[[[[[[[[[[[", content_type="application/json")
    monkeypatch.undo()
    for error, status in ((ThrottledError("later", retry_after_seconds=9), 429), (KeyError(), 500)):

        def fail(*args: Any, failure: Exception = error, **options: Any) -> None:
            raise failure

        monkeypatch.setattr(Predictions, "predict", fail)
        tensor = {"name": "x", "datatype": "FP64", "shape": [1, 4], "data": [1, 2, 3, 4]}
        body = {"inputs": [tensor] if path.startswith("v2") else [[1, 2, 3, 4]]}
        ask(status, json=body)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{broken", "application/json", 400),
        (b"", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b'"text"', "application/json", 400),
        (b"[" * 5000, "application/json", 400),
        (b'{"model_id": "x", "input_data": "rows"}', "application/json", 400),
        (b'{"model_id": 1, "input_data": []}', "application/json", 400),
        (b'{"model_id": "x"}', "application/json", 400),
        (b'{"model_id": "x", "input_data": [], "extra": 1}', "application/json", 400),
        (b'{"model_id": "\\ud800", "input_data": []}', "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b"{}", "application/json; charset=utf-16", 415),
        (b"{%s}" % b",".join(b'"%d": 0' % key for key in range(1001)), "application/json", 400),
    ],
)
def test_bodies_that_do_not_match_are_refused(
    served: World, body: bytes, content_type: str, status: int
) -> None:
    response = served.call(
        "POST", "predictions/predict", served.owner, data=body, content_type=content_type
    )
    assert response.status_code == status
    assert response.json["success"] is False
    assert served.last_event(response)["status_code"] == status


def test_a_body_over_the_limit_is_refused(database_url: str, tmp_path: Any) -> None:
    small = World(tmp_path, database_url, max_body_bytes=1000)
    response = small.predict("x", [[0.0] * 1000])
    assert response.status_code == 413
    assert "larger than the 1000 bytes" in response.json["message"]
    assert small.last_event(response)["error"] == "RequestEntityTooLarge"
    chunked = small.call(
        "POST",
        "predictions/predict",
        small.owner,
        input_stream=io.BytesIO(b" " * 2000),
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert chunked.status_code == 413
    assert "larger than the 1000 bytes" in chunked.json["message"]
    small.close()


def test_a_compressed_body_is_refused(served: World) -> None:
    response = served.call(
        "POST",
        "predictions/predict",
        served.owner,
        json={"model_id": "iris", "input_data": [[5.1, 3.5, 1.4, 0.2]]},
        headers={"Content-Encoding": "gzip"},
    )
    assert response.status_code == 415


@pytest.mark.parametrize("path", ["auth/login", "auth/register", "auth/api-keys"])
def test_who_needs_few_fields_gets_no_long_body(served: World, path: str) -> None:
    """Anybody may send these, and each unknown field would cost memory."""
    body = {str(number): 0 for number in range(10_000)}
    response = served.call("POST", path, served.owner, json=body)
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("v2/models/iris/infer", {"inputs": [0] * 100}),
        ("v2/models/iris/infer", {"inputs": [{}] * 100}),
        (
            "v2/models/iris/infer",
            {
                "inputs": [{"name": "x", "datatype": "FP64", "shape": [0], "data": []}],
                "outputs": [0] * 100,
                "parameters": {},
            },
        ),
        (
            "v2/models/iris/infer",
            {
                "inputs": [{"name": "x", "datatype": "FP64", "shape": [0], "data": []}],
                "parameters": {str(number): [] for number in range(100)},
            },
        ),
        ("invocations/iris", {"dataframe_records": [0] * 100}),
        ("invocations/iris", {"dataframe_split": {"columns": [[]] * 100, "data": []}}),
        ("invocations/iris", {"dataframe_split": {"columns": [], "data": [0] * 100}}),
    ],
)
def test_of_many_mistakes_in_a_long_body_the_first_is_told(
    served: World, path: str, body: dict[str, Any]
) -> None:
    """To gather millions would take a worker's time and gigabytes of its memory."""
    response = served.call("POST", f"//{path}", served.owner, json=body)
    assert response.status_code == 400
    message = response.json.get("error") or response.json["message"]
    assert len(message.split(";")) <= 4, message  # as many as one value may have kinds


def test_no_answer_repeats_a_value_that_was_sent(world: World) -> None:
    secret = "a-distinctive-value"
    for body in ({"email": [secret]}, {"email": secret, "password": 5}, {secret: {secret: 1}}):
        response = world.call("POST", "auth/login", json=body)
        assert response.status_code == 400
        assert f'"{secret}"' not in response.get_data(as_text=True).replace(
            f'"field":"{secret}"', ""
        )


def test_a_wrong_role_is_forbidden(world: World) -> None:
    for path in ("metrics", "performance", "usage", "errors", "requests/some-request"):
        response = world.call("GET", f"admin/{path}", world.owner)
        assert response.status_code == 403
        assert response.json["error"] == "PermissionDeniedError"
        completed = world.last_event(response)
        assert completed["level"] == "WARNING"
        assert completed["user_id"] == world.owner.id


def test_an_unknown_failure_shows_nothing_and_logs_everything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*args: Any) -> None:
        raise KeyError("internal detail")

    monkeypatch.setattr(accounts, "authenticate", explode)
    body = {"email": "a@example.com", "password": "whatever it is"}
    response = world.call("POST", "auth/login", json=body)
    assert response.status_code == 500
    assert response.json["error"] == "InternalServerError"
    assert "internal detail" not in response.get_data(as_text=True)
    failed = world.last_event(response)
    assert failed["event_type"] == "request_failed"
    assert failed["message"] == "Request failed"
    assert failed["exception_type"] == "KeyError"
    assert "internal detail" in failed["exception"]
    assert "explode" in failed["exception"]


def test_a_database_that_does_not_answer_is_503(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OperationalError("SELECT 1", {}, Exception("server closed the connection"))

    monkeypatch.setattr(accounts, "authenticate", fail)
    body = {"email": "a@example.com", "password": "whatever it is"}
    response = world.call("POST", "auth/login", json=body)
    assert response.status_code == 503
    assert response.json["error"] == "ServiceUnavailableError"
    assert "Retry-After" in response.headers
    assert world.last_event(response)["event_type"] == "request_failed"


def test_what_a_failed_statement_was_given_is_not_logged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"it": "-".join(("a", "canary"))}  # not in the traceback's source either

    def fail(*args: Any) -> None:
        db.session.execute(text("SELECT nothing FROM nowhere WHERE it = :it"), given)

    monkeypatch.setattr(accounts, "authenticate", fail)
    body = {"email": "a@example.com", "password": "whatever it is"}
    failed = world.last_event(world.call("POST", "auth/login", json=body))
    assert "SELECT nothing" in failed["exception"]
    assert "a-canary" not in str(failed)


@contextmanager
def nothing_can_be_opened() -> Iterator[None]:
    """Take from this process the descriptors that it does not use yet."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, allowed[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


def test_a_server_that_has_too_much_open_is_unavailable_and_recovers(world: World) -> None:
    model, row = dumped(iris_pipeline), [[5.1, 3.5, 1.4, 0.2]]
    assert world.call("GET", "//readyz").status_code == 200, "the migrations are read at the start"
    world.upload("loaded", dumped(diabetes_ridge))
    world.upload("iris", model)
    assert world.predict("loaded", [[0.0] * 10]).status_code == 200
    login = {"email": world.owner.email, "password": PASSWORD}
    with nothing_can_be_opened():
        assert world.predict("loaded", [[0.0] * 10]).status_code == 200
        answers = [
            world.predict("iris", row),
            world.upload("other", model),
            world.call("GET", "models/iris/download", world.owner),
            world.call("POST", "auth/login", json=login),
            world.call("GET", "predictions", world.owner),
            world.call("GET", "docs"),
        ]
    for answer in answers:
        assert (answer.status_code, answer.json["error"]) == (503, "ServiceUnavailableError")
        assert answer.headers["Retry-After"] == "2"
        assert world.last_event(answer)["level"] == "ERROR"
    assert world.call("GET", "//readyz").status_code == 200
    assert world.predict("iris", row).status_code == 200
    assert world.upload("other", model).status_code == 201
    assert world.call("POST", "auth/login", json=login).status_code == 200


@pytest.mark.parametrize("sent", ["short", "x" * 65, "has space", "new\\nline-id", "'; DROP--"])
def test_a_request_id_that_will_not_do_is_replaced(world: World, sent: str) -> None:
    response = world.call("GET", "auth/me", headers={"X-Request-ID": sent})
    assert response.headers["X-Request-ID"] != sent
    assert len(response.headers["X-Request-ID"]) == 36


def test_a_host_that_is_not_allowed_is_refused(database_url: str, tmp_path: Any) -> None:
    strict = World(tmp_path, database_url, allowed_hosts=("pellucid.example",))
    for path in (
        "/healthz",
        "/static/docs.js",
        "/api/v1/docs",
        "/admin/",
        "/admin/login",
        "/nothing",
    ):
        refused = strict.client.get(path, headers={"Host": "evil.example"})
        assert refused.status_code == 400, path
        assert refused.json["success"] is False
        assert "evil" not in refused.get_data(as_text=True)
    assert strict.client.get("/healthz", headers={"Host": "pellucid.example"}).status_code == 200
    strict.close()
