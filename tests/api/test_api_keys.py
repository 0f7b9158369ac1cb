"""Long-lived keys of machine clients."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.world import World
from webapp.db.tables import ApiKey, User
from webapp.extensions import db
from webapp.services import api_keys, tokens

ROW = [5.1, 3.5, 1.4, 0.2]


def create(world: World, person: Any = None, **body: Any) -> Any:
    body = {"name": "nightly", "scopes": ["predict"], **body}
    return world.call("POST", "auth/api-keys", person or world.owner, json=body)


def use(world: World, key: str, method: str, path: str, **options: Any) -> Any:
    return world.call(method, path, headers={"Authorization": f"Bearer {key}"}, **options)


def predict(world: World, key: str) -> Any:
    body = {"model_id": "iris", "input_data": [ROW]}
    return use(world, key, "POST", "predictions/predict", json=body)


def test_a_key_predicts_for_its_owner_and_costs_no_query_when_warm(served: World) -> None:
    created = create(served)
    assert created.status_code == 201
    data = created.json["data"]
    assert data["key"].startswith("pel_")
    assert len(data["key"]) == 47
    (action,) = served.events(created, event_type="user_action")
    assert (action["action"], action["outcome"]) == ("create_api_key", "success")
    assert action["details"] == {"client_id": data["id"], "scopes": ["predict"]}

    assert predict(served, data["key"]).status_code == 200
    warm = predict(served, data["key"])
    assert warm.json["data"]["predictions"] == [0]
    _, prediction, completed = served.events(warm)
    assert prediction["user_id"] == completed["user_id"] == served.owner.id
    assert completed["client_id"] == data["id"]
    assert completed["db_queries"] == 0
    assert data["key"] not in (served.log_dir / "app.log").read_text()


def test_keys_are_listed_without_their_secret_and_with_their_last_use(world: World) -> None:
    first = create(world, name="first").json["data"]
    second = create(world, name="second", scopes=["models", "predict"]).json["data"]
    used = use(world, first["key"], "GET", "auth/me")
    listed = world.call("GET", "auth/api-keys", world.owner)
    assert [key["name"] for key in listed.json["data"]["items"]] == ["second", "first"]
    newest, oldest = listed.json["data"]["items"]
    assert newest["scopes"] == ["models", "predict"]
    assert newest["last_used_at"] is None
    assert oldest["last_used_at"] == world.last_event(used)["timestamp"]
    text = listed.get_data(as_text=True)
    assert first["key"] not in text
    with world.app.app_context():
        hashes = {row.hash for row in db.session.query(ApiKey)}
    assert len(hashes) == 2
    assert not any(kept in text or second["key"] in kept for kept in hashes)
    assert world.call("GET", "auth/api-keys", world.stranger).json["data"]["items"] == []


def test_an_expiry_beyond_the_calendar_is_refused(served: World) -> None:
    for moment in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"):
        refused = create(served, expires_at=moment)
        assert refused.status_code == 400
        assert refused.json["error"] == "InvalidInputError"
        assert "expires_at" in refused.json["message"]
        assert moment not in refused.get_data(as_text=True)


def test_a_revoked_key_is_refused_at_once_where_it_was_revoked(world: World) -> None:
    key = create(world).json["data"]
    assert use(world, key["key"], "GET", "auth/me").status_code == 200
    path = f"auth/api-keys/{key['id']}"
    assert world.call("DELETE", path, world.stranger).status_code == 404
    revoked = world.call("DELETE", path, world.owner)
    assert revoked.status_code == 200
    (action,) = world.events(revoked, event_type="user_action")
    assert (action["action"], action["details"]) == ("revoke_api_key", {"client_id": key["id"]})
    refused = use(world, key["key"], "GET", "auth/me")
    assert (refused.status_code, refused.json["error"]) == (401, "AuthenticationError")
    again = world.call("DELETE", path, world.owner)
    assert (again.status_code, again.json["error"]) == (404, "ApiKeyNotFoundError")


def test_one_account_has_only_so_many_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MOST_KEYS", 2)
    first, _ = create(world).json["data"], create(world)
    assert create(world).status_code == 409
    assert create(world, world.admin).status_code == 201
    world.call("DELETE", f"auth/api-keys/{first['id']}", world.owner)
    assert create(world).status_code == 201


def test_a_key_does_only_what_its_scopes_say(world: World) -> None:
    reader = create(world, scopes=["predict"]).json["data"]["key"]
    keeper = create(world, scopes=["models"]).json["data"]["key"]
    refused = use(world, reader, "GET", "models")
    assert (refused.status_code, refused.json["error"]) == (403, "PermissionDeniedError")
    assert "models" in refused.json["message"]
    assert world.last_event(refused)["level"] == "WARNING"
    assert use(world, keeper, "GET", "models").status_code == 200
    assert predict(world, keeper).status_code == 403
    for method, path in (
        ("GET", "auth/api-keys"),
        ("POST", "auth/api-keys"),
        ("POST", "auth/logout"),
        ("POST", "auth/refresh"),
    ):
        assert use(world, reader, method, path).status_code in {401, 403}, path


def test_only_an_admin_gets_the_scope_admin_and_only_with_it_is_one(world: World) -> None:
    refused = create(world, scopes=["admin"])
    assert (refused.status_code, refused.json["error"]) == (403, "PermissionDeniedError")
    (action,) = world.events(refused, event_type="user_action")
    assert (action["action"], action["outcome"]) == ("create_api_key", "failure")

    weak = create(world, world.admin, scopes=["predict"]).json["data"]["key"]
    strong = create(world, world.admin, scopes=["admin"]).json["data"]["key"]
    assert use(world, weak, "GET", "admin/metrics").status_code == 403
    assert use(world, weak, "GET", "auth/me").json["data"]["role"] == "user"
    assert use(world, strong, "GET", "admin/metrics").status_code == 200
    with world.app.app_context():
        db.session.query(User).filter_by(id=world.admin.id).update({"role": "user"})
        db.session.commit()
    _forget()
    assert use(world, strong, "GET", "admin/metrics").status_code == 403


def test_an_expired_key_and_one_of_a_disabled_account_are_refused(world: World) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    key = create(world, expires_at=later).json["data"]["key"]
    assert use(world, key, "GET", "auth/me").status_code == 200
    with world.app.app_context():
        db.session.query(ApiKey).update({"expires_at": datetime.now(UTC) - timedelta(seconds=1)})
        db.session.commit()
    _forget()
    refused = use(world, key, "GET", "auth/me")
    assert refused.status_code == 401
    assert "expired" in refused.json["message"]
    lasting = create(world).json["data"]["key"]
    with world.app.app_context():
        db.session.query(User).filter_by(id=world.owner.id).update({"disabled": True})
        db.session.commit()
    assert use(world, lasting, "GET", "auth/me").status_code == 401


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"role": "admin"}, "role"),
    ],
)
def test_a_key_that_cannot_be_is_refused(served: World, body: Any, says: str) -> None:
    refused = create(served, **body)
    assert refused.status_code == 400
    assert says in refused.json["message"]


@pytest.mark.parametrize("key", ["pel_", "pel_" + "A" * 43, "pel_\N{SNOWMAN}"])
def test_a_made_up_key_is_refused(served: World, key: str) -> None:
    header = {"Authorization": f"Bearer {key}".encode().decode("latin-1")}
    refused = served.call("GET", "auth/me", headers=header)
    assert (refused.status_code, refused.json["error"]) == (401, "AuthenticationError")


def _forget() -> None:
    """Let the seconds pass for which an identity is remembered."""
    tokens.forget_identities()
    api_keys.forget()
