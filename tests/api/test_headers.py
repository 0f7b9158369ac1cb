"""Headers that a browser heeds, on answers of every kind."""

from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.world import World

EXPECTED = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def check(response: TestResponse, cache_control: str = "no-store") -> None:
    """Check the headers of an answer, each there once."""
    for name, value in {**EXPECTED, "Cache-Control": cache_control}.items():
        assert response.headers.getlist(name) == [value], name
    assert len(response.headers.getlist("X-Request-ID")) == 1
    assert "Access-Control" not in str(response.headers)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "models", 200),
        ("HEAD", "models", 200),
        ("OPTIONS", "models", 200),
        ("TRACE", "models", 405),
        ("GET", "models/nothing", 404),
        ("POST", "predictions/predict", 415),
        ("GET", "models/iris/download", 200),
        ("HEAD", "models/iris/download", 200),
        ("GET", "docs", 200),
        ("GET", "openapi.json", 200),
        ("GET", "//healthz", 200),
        ("GET", "//readyz", 200),
        ("GET", "//metrics", 200),
        ("GET", "//v2/models/iris", 200),
        ("GET", "//v1/models/iris", 200),
        ("GET", "//invocations/iris", 405),
        ("GET", "//nothing", 404),
        ("OPTIONS", "//nothing", 404),
        ("GET", "//static/nothing.js", 404),
        ("GET", "//admin", 308),
        ("GET", "//admin/", 303),
        ("GET", "//admin/login", 200),
        ("GET", "//admin/nothing", 404),
    ],
)
def test_every_answer_has_them(served: World, method: str, path: str, status: int) -> None:
    response = served.call(method, path, served.owner, headers={"Origin": "https://example.com"})
    assert response.status_code == status
    check(response)


def test_so_have_the_answers_to_whom_nobody_knows_and_to_what_is_too_much(served: World) -> None:
    check(served.call("GET", "models"))
    large = b" " * (served.settings.max_body_bytes + 1)
    refused = served.call("POST", "auth/login", data=large, content_type="application/json")
    assert refused.status_code == 413
    check(refused)


def test_a_failure_has_them(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("odd")

    monkeypatch.setitem(served.app.view_functions, "auth.me", fail)
    failed = served.call("GET", "auth/me", served.owner)
    assert failed.status_code == 500
    check(failed)


@pytest.mark.parametrize(
    "sent",
    [
        {"headers": {"Host": "evil.com"}},
        {"headers": {"Host": "a_b.c"}},
        {"headers": {"Host": "[evil]"}},
        {"environ_overrides": {"wsgi.url_scheme": "javascript"}},
    ],
)
def test_a_redirect_stays_here_whatever_the_server_is_called(
    served: World, sent: dict[str, Any]
) -> None:
    for path, location in {
        "//admin": "/admin/",
        "//admin?since=7d&until=1d": "/admin/?since=7d&until=1d",
        "//admin//log": "/admin/log",
        "//static///docs.js": "/static/docs.js",
        "models//a%3Fb": "/api/v1/models/a%3Fb",
    }.items():
        response = served.call("GET", path, **sent)
        assert (response.status_code, response.headers["Location"]) == (308, location)


def test_static_files_may_be_kept_and_asked_for_again(served: World) -> None:
    first = served.call("GET", "//static/docs.js")
    check(first, "no-cache")
    first.close()
    again = served.call("GET", "//static/docs.js", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    check(again, "no-cache")
    again.close()


def test_options_opens_no_door(served: World) -> None:
    for path in ("//admin/", "//admin/users", "//admin/live/overview"):
        answer = served.call("OPTIONS", path)
        assert answer.status_code in (303, 401), path
        check(answer)


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:50123", "203.0.113.7"),
        ("[2001:db8::7]:50123", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("forged, 203.0.113.7:1", "203.0.113.7"),
    ],
)
def test_the_address_that_a_proxy_tells_has_no_port(
    tmp_path: Path, database_url: str, said: str, address: str
) -> None:
    behind = World(tmp_path, database_url, trusted_proxies=1)
    response = behind.call("GET", "auth/me", headers={"X-Forwarded-For": said})
    assert behind.last_event(response)["client_ip"] == address
    behind.close()
