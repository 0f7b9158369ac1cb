"""Secrets sent through every route, and failures that carry them, reach no file and no answer."""

import base64
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.routing import Rule

from tests.world import World
from webapp.services import accounts, tokens
from webapp.services.catalog import Catalog
from webapp.services.predictions import Predictions
from webapp.services.registry import Registry

PASSWORD = 'canary "pass\\word" ünï'
API_KEY = "pel_canaryCANARYcanaryCANARY0123456789"
COOKIE = "canary-cookie-value-0123456789"
OPAQUE = "canary-opaque-credentials-0123456789"
BASIC = base64.b64encode(b"canary:canary-basic-password").decode()
DATABASE_PASSWORD = "canary-database-password"
DATABASE_URL = f"postgresql://canary:{DATABASE_PASSWORD}@db.example:5432/pellucid"
SECRETS = (PASSWORD, API_KEY, COOKIE, OPAQUE, BASIC, DATABASE_PASSWORD)
# A page shows its own address again (filters, where to go after the login) to whoever sent it. The
# log still must not have it.
SHOW_WHAT_WAS_SENT = "/admin/"


def _routes(world: World) -> Iterator[tuple[str, Rule]]:
    for rule in world.app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, rule


def _path(rule: Rule, value: str) -> str:
    return re.sub(r"<[^>]+>", lambda match: quote(value, safe=""), rule.rule)


def _authorizations(world: World) -> list[str]:
    person = world.owner
    return [
        f"Bearer {person.access_token}",
        f"Bearer {world.admin.access_token}",
        f"Bearer {person.refresh_token}",
        f"Bearer {API_KEY}",
        f"Basic {BASIC}",
        f"Digest {OPAQUE}",
        OPAQUE,
    ]


def _send(world: World, method: str, rule: Rule, secret: str, authorization: str) -> None:
    path = _path(rule, secret)
    body: dict[str, Any] = {
        "email": secret,
        "password": PASSWORD,
        "token": secret,
        "model_id": secret,
        "input_data": [[secret]],
        "name": secret,
    }
    query = {"token": secret, "password": PASSWORD, "url": DATABASE_URL}
    options: list[dict[str, Any]] = [{}, {"query_string": query}]
    if method in {"POST", "PUT", "PATCH"}:
        options = [
            {"json": {"email": "canary@example.com", "password": PASSWORD}},
            {"json": {"model_id": secret, "input_data": [[1]]}},
            {"json": {"description": secret}},
            {"json": body, "query_string": query},
            {"data": {"password": PASSWORD, "file": (io.BytesIO(secret.encode()), secret)}},
        ]
    client = world.app.test_client(use_cookies=False)  # with a jar, it would drop our header
    for option in options:
        response = client.open(
            path,
            method=method,
            headers={
                "Authorization": authorization,
                "Cookie": f"session={COOKIE}; other={COOKIE}",
                "X-Api-Key": secret.encode().decode("latin-1"),
                "X-Request-ID": API_KEY,
                "User-Agent": f"canary/1 token={OPAQUE} {DATABASE_URL}",
            },
            **option,
        )
        text = response.get_data(as_text=True)
        response.close()
        if rule.rule.startswith(SHOW_WHAT_WAS_SENT):
            continue
        for hidden in _hidden(world):
            assert hidden not in text, f"{method} {path} answers a secret"


def _hidden(world: World) -> list[str]:
    people = (world.owner, world.admin)
    jwts = [token for one in people for token in (one.access_token, one.refresh_token)]
    return [*SECRETS, *(token.rpartition(".")[2] for token in jwts)]


def _assert_nowhere(world: World, output: str) -> None:
    texts = {
        str(path): path.read_text(errors="replace")
        for path in world.log_dir.rglob("*")
        if path.is_file()
    }
    assert sum(map(len, texts.values())) > 10_000, "something was logged"
    texts["stdout and stderr"] = output
    for hidden in _hidden(world):
        escaped = (json.dumps(hidden, ensure_ascii=False), json.dumps(hidden), repr(hidden))
        spellings = {hidden, quote(hidden), *(text[1:-1] for text in escaped)}
        for name, text in texts.items():
            for spelling in spellings:
                assert spelling not in text, f"{spelling} is in {name}"


def test_no_secret_sent_to_any_route_is_written_or_answered(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    for method, rule in _routes(world):
        for authorization in _authorizations(world):
            for secret in (API_KEY, world.owner.access_token):
                _send(world, method, rule, secret, authorization)
    _assert_nowhere(world, "".join(capfd.readouterr()))


@pytest.mark.parametrize("slow", [False, True])
def test_no_secret_in_a_failure_is_written_or_answered(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    slow: bool,
) -> None:
    world = World(tmp_path, database_url, slow_request_seconds=0.001, log_stdout="json")
    people = (world.owner, world.admin)

    def explode(*args: Any, **kwargs: Any) -> None:
        if slow:
            time.sleep(0.002)
        raise RuntimeError(
            f"Authorization: Bearer {people[0].access_token}, Bearer {people[1].refresh_token}\n"
            f"cookies {COOKIE} key {API_KEY}, {DATABASE_URL}, {args} {' '.join(map(str, args))}"
            f" basic {BASIC} or {{'authorization': 'Digest {OPAQUE}'}}"
        )

    for owner, name in (
        (accounts, "authenticate"),
        (accounts, "register"),
        (tokens, "refresh"),
        (tokens, "revoke_session"),
        (Registry, "add"),
        (Catalog, "list_models"),
        (Catalog, "get_model"),
        (Registry, "change"),
        (Registry, "delete"),
        (Predictions, "predict"),
    ):
        monkeypatch.setattr(owner, name, explode)
    authorizations = (
        *(f"Bearer {token}" for token in (people[0].access_token, people[0].refresh_token)),
        f"Digest {OPAQUE}",
    )
    for method, rule in _routes(world):
        for authorization in authorizations:
            _send(world, method, rule, API_KEY, authorization)
    failed = world.events(event_type="request_failed")
    assert len({event["route"] for event in failed}) >= 7, "routes failed with it"
    assert all("[redacted]" in event["exception"] for event in failed)
    _assert_nowhere(world, "".join(capfd.readouterr()))
    world.close()
