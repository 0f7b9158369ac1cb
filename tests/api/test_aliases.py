"""Versions of a model, and the names that move from one to another."""

from typing import Any

import pytest

from tests.estimators import diabetes_ridge, iris_pipeline, iris_vectors
from tests.world import World
from webapp.db.tables import ModelVersion
from webapp.extensions import db
from webapp.services import registry

ROW = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture
def versioned(world: World) -> World:
    """A program with two versions of `iris`: labels 0 to 2, then species by name."""
    for estimator in (iris_pipeline(), iris_vectors()):
        assert world.upload("iris", estimator).status_code == 201
    return world


def put(world: World, alias: str, body: Any, **options: Any) -> Any:
    return world.call("PUT", f"models/iris/aliases/{alias}", world.owner, json=body, **options)


def test_versions_are_listed_newest_first_in_pages(versioned: World) -> None:
    page = versioned.call("GET", "models/iris/versions?per_page=1", versioned.owner).json["data"]
    assert (page["total"], page["page"], page["per_page"]) == (2, 1, 1)
    (newest,) = page["items"]
    assert newest["version"] == 2
    assert newest["state"] == "ready"
    assert newest["passport"]["classes_"] == ["setosa", "versicolor", "virginica"]
    assert versioned.call("GET", "models/iris/versions", versioned.stranger).status_code == 404


def test_an_alias_moves_from_one_version_to_another(versioned: World) -> None:
    assert put(versioned, "production", {"version": 1}).json["data"]["version"] == 1
    first = versioned.predict("iris@production", [ROW]).json["data"]
    assert (first["model_version"], first["predictions"]) == (1, [0])

    moved = put(versioned, "production", {"version": 2})
    assert moved.status_code == 200
    second = versioned.predict("iris@production", [ROW]).json["data"]
    assert (second["model_version"], second["predictions"]) == (2, ["setosa"])

    aliases = versioned.call("GET", "models/iris/aliases", versioned.owner).json["data"]
    assert aliases == {"aliases": {"latest": 2, "production": 2}}
    (action,) = versioned.events(moved, event_type="user_action")
    assert (action["action"], action["outcome"]) == ("set_alias", "success")
    assert action["details"] == {"alias": "production", "version": 2, "before": 1}
    assert action["model_version"] == 2


def test_an_upload_moves_latest_and_no_other_alias(versioned: World) -> None:
    put(versioned, "production", {"version": 2})
    versioned.upload("iris", iris_pipeline())
    assert versioned.upload("iris", b"broken").status_code == 422
    aliases = versioned.call("GET", "models/iris/aliases", versioned.owner).json["data"]
    assert aliases == {"aliases": {"latest": 3, "production": 2}}


def test_a_deleted_alias_names_nothing(versioned: World) -> None:
    put(versioned, "canary", {"version": 1})
    path = "models/iris/aliases/canary"
    deleted = versioned.call("DELETE", path, versioned.owner)
    assert deleted.json["data"]["version"] == 1
    (action,) = versioned.events(deleted, event_type="user_action")
    assert (action["action"], action["details"]) == ("delete_alias", {"alias": "canary"})
    assert versioned.predict("iris@canary", [ROW]).status_code == 404
    again = versioned.call("DELETE", path, versioned.owner)
    assert (again.status_code, again.json["error"]) == (404, "ModelNotFoundError")


@pytest.mark.parametrize(
    ("alias", "body", "status"),
    [
        ("production", {"version": 3}, 404),
        ("production", {"version": 0}, 400),
        ("production", {"version": "1"}, 400),
        ("production", {"version": 10**12}, 400),
        ("production", {}, 400),
        ("latest", {"version": 1}, 400),
        ("7", {"version": 1}, 400),
        ("Production", {"version": 1}, 400),
        ("a" * 65, {"version": 1}, 400),
    ],
)
def test_an_alias_that_cannot_be_is_refused(
    versioned: World, alias: str, body: Any, status: int
) -> None:
    assert put(versioned, alias, body).status_code == status
    aliases = versioned.call("GET", "models/iris/aliases", versioned.owner).json["data"]
    assert aliases == {"aliases": {"latest": 2}}


def test_one_model_has_only_so_many_aliases(
    versioned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MOST_ALIASES", 1)
    assert put(versioned, "production", {"version": 1}).status_code == 200
    assert put(versioned, "canary", {"version": 2}).status_code == 409
    assert put(versioned, "production", {"version": 2}).status_code == 200, "it moves"


def test_an_alias_never_names_a_version_that_is_quarantined(versioned: World) -> None:
    put(versioned, "production", {"version": 1})
    with versioned.app.app_context():
        db.session.query(ModelVersion).filter_by(version=2).update({"state": "quarantined"})
        db.session.commit()
    refused = put(versioned, "production", {"version": 2})
    assert refused.status_code == 409
    (action,) = versioned.events(refused, event_type="user_action")
    assert (action["outcome"], action["reason"]) == ("failure", refused.json["message"])
    assert versioned.predict("iris@production", [ROW]).json["data"]["model_version"] == 1


def test_aliases_are_the_owners_and_the_admins_to_move(versioned: World) -> None:
    model_id = versioned.call("GET", "models/iris", versioned.owner).json["data"]["id"]
    path, body = f"models/{model_id}/aliases/production", {"version": 1}
    assert versioned.call("PUT", path, versioned.stranger, json=body).status_code == 404
    versioned.call("PATCH", f"models/{model_id}", versioned.owner, json={"shared": True})
    for method, options in (("PUT", {"json": body}), ("DELETE", {})):
        refused = versioned.call(method, path, versioned.stranger, **options)
        assert (refused.status_code, refused.json["error"]) == (403, "PermissionDeniedError")
    assert versioned.call("PUT", path, versioned.admin, json=body).status_code == 200
    shared = versioned.predict(f"{model_id}@production", [ROW], versioned.stranger)
    assert shared.json["data"]["model_version"] == 1


def test_a_deleted_model_takes_its_aliases_along(versioned: World) -> None:
    put(versioned, "production", {"version": 1})
    assert versioned.call("DELETE", "models/iris", versioned.owner).status_code == 200
    versioned.upload("iris", diabetes_ridge())
    aliases = versioned.call("GET", "models/iris/aliases", versioned.owner).json["data"]
    assert aliases == {"aliases": {"latest": 1}}
