"""Accounts and tokens, as a client meets them."""

import datetime
import secrets
from typing import Any

import jwt
import pytest

from tests.world import PASSWORD, World
from webapp.services import accounts


def test_register_login_me_refresh_and_logout(world: World) -> None:
    ada = {"email": "Ada@Example.com", "password": PASSWORD}
    registered = world.call("POST", "auth/register", json=ada)
    assert registered.status_code == 201
    data = registered.json["data"]
    assert data["token_type"] == "Bearer"
    assert data["expires_in"] == 900
    assert data["user"]["role"] == "user"

    pair = world.call("POST", "auth/login", json=ada).json["data"]
    me = world.call("GET", "auth/me", headers=_bearer(pair["access_token"]))
    assert me.json["data"]["email"] == "ada@example.com"

    refreshed = world.call("POST", "auth/refresh", headers=_bearer(pair["refresh_token"]))
    new = refreshed.json["data"]
    assert world.call("GET", "auth/me", headers=_bearer(new["access_token"])).status_code == 200
    again = world.call("POST", "auth/refresh", headers=_bearer(pair["refresh_token"]))
    assert again.status_code == 401

    assert world.call("POST", "auth/logout", headers=_bearer(new["access_token"])).json == {
        "success": True,
        "data": None,
    }
    for token in (new["access_token"], pair["access_token"]):
        assert world.call("GET", "auth/me", headers=_bearer(token)).status_code == 401
    assert (
        world.call("POST", "auth/refresh", headers=_bearer(new["refresh_token"])).status_code == 401
    )
    actions = [event["action"] for event in world.events(event_type="user_action")]
    assert actions == ["register", "login", "refresh_token", "logout"]


def test_a_failed_login_says_nothing_of_the_account_and_is_logged(world: World) -> None:
    known = _login(world, world.owner.email, "wrong password")
    unknown = _login(world, "nobody@example.com", "wrong password")
    assert known.status_code == unknown.status_code == 401
    assert known.json["message"] == unknown.json["message"]
    (action,) = world.events(known, event_type="user_action")
    assert action["message"] == "User action: login"
    assert action["level"] == "WARNING"
    assert (action["action"], action["outcome"]) == ("login", "failure")
    assert action["email"] == world.owner.email
    assert world.last_event(known)["level"] == "WARNING"


@pytest.mark.parametrize("email", ["admin@localhost", "root@intranet", "ada@xn--e1afmkfd.xn--p1ai"])
def test_a_failed_login_names_any_address_that_has_an_account(world: World, email: str) -> None:
    world.person(email)
    response = _login(world, email.title(), "wrong password")
    page = world.client.post("/admin/login", data={"email": email, "password": "wrong password"})
    taken = world.call("POST", "auth/register", json={"email": email, "password": PASSWORD})
    assert (response.status_code, page.status_code, taken.status_code) == (401, 401, 409)
    for answer in (response, page, taken):
        (action,) = world.events(answer, event_type="user_action")
        assert (action["outcome"], action["email"]) == ("failure", email)


@pytest.mark.parametrize("typed", ["my secret password", "P@ssw0rd-of-mine"])
def test_a_password_typed_as_the_email_is_not_logged(world: World, typed: str) -> None:
    response = _login(world, typed, "x" * 8)
    (action,) = world.events(response, event_type="user_action")
    assert "email" not in action
    assert typed not in (world.log_dir / "app.log").read_text()


def test_the_sixth_wrong_password_is_throttled(world: World) -> None:
    answers = [_login(world, world.owner.email, f"wrong {i}") for i in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 900
    assert answers[-1].json["error"] == "ThrottledError"
    assert _login(world, world.owner.email, PASSWORD).status_code == 429
    assert world.last_event(answers[-1])["level"] == "WARNING"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "a@example.com"}, "password"),
        ({"email": 1, "password": PASSWORD}, "email"),
        ({"email": "a@example.com", "password": PASSWORD, "role": "admin"}, "role"),
        ({"email": "not an address", "password": PASSWORD}, "email"),
        ({"email": "a@example.com", "password": "short"}, "password"),
    ],
)
def test_registration_refuses_what_does_not_match(
    world: World, body: dict[str, Any], field: str
) -> None:
    response = world.call("POST", "auth/register", json=body)
    assert response.status_code == 400
    assert field in response.json["message"]
    assert PASSWORD not in response.get_data(as_text=True)


def test_an_address_is_registered_once(world: World) -> None:
    body = {"email": world.owner.email.upper(), "password": PASSWORD}
    response = world.call("POST", "auth/register", json=body)
    assert response.status_code == 409


def test_registration_can_be_closed(database_url: str, tmp_path: Any) -> None:
    closed = World(tmp_path, database_url, registration="closed")
    body = {"email": "a@example.com", "password": PASSWORD}
    assert closed.call("POST", "auth/register", json=body).status_code == 403
    closed.close()


def test_without_a_token_nothing_is_told(world: World) -> None:
    response = world.call("GET", "auth/me")
    _assert_unauthorized(world, response)
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_a_malformed_token_is_refused(world: World, token: str) -> None:
    _assert_unauthorized(world, world.call("GET", "auth/me", headers=_bearer(token)))


def test_an_expired_token_is_refused(world: World) -> None:
    claims = _claims(world, exp=_now() - datetime.timedelta(minutes=5))
    token = jwt.encode(claims, world.settings.jwt_secret_key, "HS256")
    response = world.call("GET", "auth/me", headers=_bearer(token))
    _assert_unauthorized(world, response)
    assert "expired" in response.json["message"]


@pytest.mark.parametrize("claim", ["aud", "exp", "iat", "iss", "jti", "sid", "sub"])
def test_a_token_without_a_claim_is_refused(world: World, claim: str) -> None:
    assert world.call("GET", "auth/me", world.owner).status_code == 200
    claims = {name: value for name, value in _claims(world).items() if name != claim}
    token = jwt.encode(claims, world.settings.jwt_secret_key, "HS256")
    _assert_unauthorized(world, world.call("GET", "auth/me", headers=_bearer(token)))


@pytest.mark.parametrize(
    ("late", "status"),
    [({"exp": -20}, 200), ({"exp": -40}, 401), ({"iat": 20}, 200), ({"nbf": 40}, 401)],
)
def test_clocks_may_differ_by_half_a_minute(
    world: World, late: dict[str, int], status: int
) -> None:
    times = {name: _now().timestamp() + seconds for name, seconds in late.items()}
    token = jwt.encode(_claims(world, **times), world.settings.jwt_secret_key, "HS256")
    assert world.call("GET", "auth/me", headers=_bearer(token)).status_code == status


@pytest.mark.parametrize(("key", "status"), [(None, 200), ("k" * 32, 401)])
def test_no_header_of_a_token_says_how_it_is_checked(
    world: World, key: str | None, status: int
) -> None:
    address = "http://127.0.0.1:1/keys"
    jwk = {"kty": "oct", "k": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s"}
    headers = {"kid": "../../dev/null", "jku": address, "x5u": address, "jwk": jwk}
    token = jwt.encode(_claims(world), key or world.settings.jwt_secret_key, "HS256", headers)
    assert world.call("GET", "auth/me", headers=_bearer(token)).status_code == status


def test_a_token_with_a_critical_header_is_refused(world: World) -> None:
    headers = {"crit": ["http://example.com/odd"], "http://example.com/odd": True}
    token = jwt.encode(_claims(world), world.settings.jwt_secret_key, "HS256", headers)
    _assert_unauthorized(world, world.call("GET", "auth/me", headers=_bearer(token)))


@pytest.mark.parametrize(
    "change", [{"iss": "other"}, {"aud": "other"}, {"sub": 1}, {"sub": "nobody"}]
)
def test_a_token_with_wrong_claims_is_refused(world: World, change: dict[str, Any]) -> None:
    token = jwt.encode(_claims(world, **change), world.settings.jwt_secret_key, "HS256")
    _assert_unauthorized(world, world.call("GET", "auth/me", headers=_bearer(token)))


def test_a_token_signed_with_another_key_is_refused(world: World) -> None:
    token = jwt.encode(_claims(world), "k" * 32, "HS256")
    _assert_unauthorized(world, world.call("GET", "auth/me", headers=_bearer(token)))


def test_a_refresh_token_is_no_access_token_nor_the_reverse(world: World) -> None:
    owner = world.owner
    _assert_unauthorized(world, world.call("GET", "auth/me", headers=_bearer(owner.refresh_token)))
    _assert_unauthorized(
        world, world.call("POST", "auth/refresh", headers=_bearer(owner.access_token))
    )


def test_the_token_of_a_deleted_user_is_refused(world: World) -> None:
    person = world.person("gone@example.com")
    assert world.call("GET", "auth/me", person).status_code == 200
    with world.app.app_context():
        accounts.delete_user(person.email)
    _assert_unauthorized(world, world.call("GET", "auth/me", person))


def test_the_token_is_checked_before_the_body(world: World) -> None:
    response = world.call("POST", "predictions/predict", data=b"{broken")
    _assert_unauthorized(world, response)


def test_tokens_in_the_query_string_do_not_count(world: World) -> None:
    response = world.call("GET", f"auth/me?jwt={world.owner.access_token}")
    _assert_unauthorized(world, response)
    assert world.owner.access_token not in (world.log_dir / "app.log").read_text()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _login(world: World, email: str, password: str) -> Any:
    return world.call("POST", "auth/login", json={"email": email, "password": password})


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _claims(world: World, **change: Any) -> dict[str, Any]:
    claims = jwt.decode(world.owner.access_token, options={"verify_signature": False})
    return {**claims, "jti": secrets.token_hex(), **change}


def _assert_unauthorized(world: World, response: Any) -> None:
    assert response.status_code == 401
    assert response.json["success"] is False
    assert response.json["error"] == "AuthenticationError"
    assert response.json["request_id"] == response.headers["X-Request-ID"]
    completed = world.last_event(response)
    assert completed["event_type"] == "request_completed"
    assert completed["level"] == "WARNING"
    assert completed["error"] == "AuthenticationError"


@pytest.mark.parametrize("name", ["jwt", "sig", "X-Amz-Signature", "session.id", "otp"])
def test_what_names_a_secret_in_a_query_hides_it(world: World, name: str) -> None:
    response = world.client.get(f"/api/v1/models?{name}=a-distinctive-value")
    assert "a-distinctive-value" not in str(
        world.events(request_id=response.headers["X-Request-ID"])
    )
