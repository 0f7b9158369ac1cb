"""Uploading, reading, changing, deleting and downloading models."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from tests.disk import fill, small_disk
from tests.estimators import diabetes_ridge, dump, dumped, iris_pipeline
from tests.threads import at_once
from tests.world import World
from webapp.services.tokens import Identity
from webapp.web.uploads import MULTIPART_OVERHEAD_BYTES

ROW = [5.1, 3.5, 1.4, 0.2]


def test_an_upload_becomes_a_version_with_a_passport(world: World) -> None:
    response = world.upload("iris", iris_pipeline(), description="Fisher's irises")
    assert response.status_code == 201
    data = response.json["data"]
    assert (data["name"], data["version"]) == ("iris", 1)
    passport = data["passport"]
    assert passport["estimator"] == "sklearn.pipeline.Pipeline"
    assert passport["n_features_in_"] == 4
    assert passport["classes_"] == [0, 1, 2]
    assert passport["bytes"] == len(dump(iris_pipeline()))
    (action,) = world.events(response, event_type="user_action")
    assert (action["action"], action["outcome"]) == ("upload_model", "success")
    assert action["details"]["sha256"] == passport["sha256"]
    assert world.last_event(response)["model_id"] == data["id"]

    again = world.upload("iris", iris_pipeline()).json["data"]
    assert (again["id"], again["version"]) == (data["id"], 2)
    model = world.call("GET", f"models/{data['id']}", world.owner).json["data"]
    assert [version["version"] for version in model["versions"]] == [1, 2]
    (listed,) = world.call("GET", "models", world.owner).json["data"]["items"]
    assert listed == {name: value for name, value in model.items() if name != "versions"}
    assert model["latest_version"] == 2
    assert model["description"] == "Fisher's irises"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"max_user_versions": 2}, "would be 3 versions, and one user may store 2"),
        ({"max_user_bytes": 4000}, "bytes, and one user may store 4000"),
    ],
)
def test_a_user_stores_only_so_much(
    tmp_path: Path, database_url: str, overrides: dict[str, int], says: str
) -> None:
    world = World(tmp_path, database_url, **overrides)
    model = dump(iris_pipeline())
    assert 1400 < len(model) < 2000
    for name in ("a", "b"):
        assert world.upload(name, model).status_code == 201
    refused = world.upload("a", model)
    assert (refused.status_code, refused.json["error"]) == (413, "PayloadTooLargeError")
    assert says in refused.json["message"]
    assert refused.json["details"]["limit"] == next(iter(overrides.values()))
    (action,) = world.events(refused, event_type="user_action")
    assert (action["outcome"], action["action"]) == ("failure", "upload_model")
    assert world.upload("a", model, world.stranger).status_code == 201, "each has a share"
    assert world.call("DELETE", "models/b", world.owner).status_code == 200
    assert world.upload("a", model).status_code == 201
    world.close()


def test_a_check_has_the_memory_that_the_operator_allows(tmp_path: Path, database_url: str) -> None:
    world = World(tmp_path, database_url, check_memory_bytes=2**20)
    large = KNeighborsClassifier().fit(np.zeros((45_000, 20)), np.arange(45_000) % 2)
    refused = world.upload("large", dump(large, compress=3))
    assert refused.status_code == 422
    assert refused.json["details"]["reason"] == "limits"
    world.close()


def test_a_model_is_renamed_described_shared_and_deleted(world: World) -> None:
    first = world.upload("iris", iris_pipeline()).json["data"]
    world.upload("other", diabetes_ridge())
    path = f"models/{first['id']}"
    changed = world.call(
        "PATCH", path, world.owner, json={"name": "flowers", "description": "now shared"}
    )
    assert changed.json["data"]["name"] == "flowers"
    assert world.call("GET", "models/iris", world.owner).status_code == 404
    assert world.call("PATCH", path, world.owner, json={"name": "other"}).status_code == 409
    assert world.call("PATCH", path, world.owner, json={"name": "No!"}).status_code == 400
    assert world.call("PATCH", path, world.owner, json={"owner_id": "x"}).status_code == 400

    stranger = world.stranger
    assert world.call("GET", path, stranger).status_code == 404
    world.call("PATCH", path, world.owner, json={"shared": True})
    assert world.call("GET", path, stranger).status_code == 200
    assert world.predict(first["id"], [ROW], stranger).status_code == 200
    for method, options in (("PATCH", {"json": {"name": "mine"}}), ("DELETE", {})):
        refused = world.call(method, path, stranger, **options)
        assert refused.status_code == 403
        assert refused.json["error"] == "PermissionDeniedError"
    assert world.call("GET", f"{path}/download", stranger).status_code == 403

    assert world.call("DELETE", path, world.owner).status_code == 200
    assert world.predict(first["id"], [ROW]).status_code == 404
    files = {path.name for path in world.parts.store.root.rglob("*.joblib")}
    assert len(files) == 1, "the other model's file stays, this one's is gone"


def test_admins_may_read_and_delete_what_others_own(world: World) -> None:
    model_id = world.upload("iris", iris_pipeline()).json["data"]["id"]
    assert world.call("GET", f"models/{model_id}", world.admin).status_code == 200
    assert world.call("DELETE", f"models/{model_id}", world.admin).status_code == 200


def test_the_list_has_pages_and_only_what_the_caller_may_see(served: World) -> None:
    first = served.call("GET", "models?per_page=2", served.owner).json["data"]
    assert [item["name"] for item in first["items"]] == ["diabetes", "cancer"]
    assert (first["page"], first["per_page"], first["total"]) == (1, 2, 3)
    second = served.call("GET", "models?per_page=2&page=2", served.owner).json["data"]
    assert [item["name"] for item in second["items"]] == ["iris"]
    assert served.call("GET", "models", served.stranger).json["data"]["items"] == []
    assert served.call("GET", "models?per_page=0", served.owner).status_code == 400
    assert served.call("GET", "models?pages=1", served.owner).status_code == 400


def test_a_download_is_the_file_as_it_was_uploaded(served: World) -> None:
    response = served.call("GET", "models/iris/download", served.owner)
    assert response.status_code == 200
    assert response.data == dump(iris_pipeline())
    assert "iris-1.joblib" in response.headers["Content-Disposition"]
    response.close()
    assert served.last_event(response)["status_code"] == 200


class _Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned-by-a-model",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a model", "invalid_file"),
        (b"", "invalid_file"),
        (dump(iris_pipeline())[:-20], "truncated"),
        (dump({"a": 1}), "not_an_estimator"),
        (pickle.dumps(_Harmful()), "global_not_allowed"),
    ],
)
def test_a_file_that_is_no_model_is_refused_and_leaves_nothing(
    world: World, content: bytes, reason: str
) -> None:
    response = world.upload("bad", content)
    assert response.status_code == 422
    assert response.json["error"] == "ModelRejectedError"
    assert response.json["details"]["reason"] == reason
    (action,) = world.events(response, event_type="user_action")
    assert (action["outcome"], action["reason"]) == ("failure", reason)
    assert len(action["details"]["sha256"]) == 64
    assert world.call("GET", "models", world.owner).json["data"]["total"] == 0
    assert not list(world.parts.store.root.rglob("*.joblib"))
    assert not list(world.parts.store.incoming.iterdir())
    assert not os.path.exists("pwned-by-a-model")


def test_a_full_disk_refuses_uploads_and_no_predictions(tmp_path: Path, database_url: str) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        world = World(tmp_path, database_url, instance_path=disk)
        world.upload("iris", dumped(iris_pipeline))
        filler = fill(disk)
        refused = world.upload("other", dumped(diabetes_ridge))
        assert (refused.status_code, refused.json["error"]) == (507, "StorageFullError")
        assert not list(world.parts.store.incoming.iterdir())
        assert world.call("GET", "models/other", world.owner).status_code == 404
        assert world.predict("iris", [ROW]).status_code == 200
        filler.unlink()
        assert world.upload("other", dumped(diabetes_ridge)).status_code == 201
        world.close()


def test_an_upload_over_the_limit_is_refused(database_url: str, tmp_path: Any) -> None:
    small = World(tmp_path, database_url, max_upload_bytes=1000)
    for size, said in (
        (1001, "the file is larger than the 1000 bytes"),
        (200_000, f"the body is larger than the {1000 + MULTIPART_OVERHEAD_BYTES} bytes"),
    ):
        response = small.upload("big", bytes(size))
        assert response.status_code == 413
        assert said in response.json["message"]
        assert response.json["error"] == "RequestEntityTooLarge"
    assert list(small.parts.store.incoming.iterdir()) == []
    small.close()


@pytest.mark.parametrize("content", [b"\n", b"\r", b"\r\n", b"-\n" + 60 * b"-"])
def test_line_breaks_in_a_large_file_do_not_matter(served: World, content: bytes) -> None:
    data = content * (500_000 // len(content))
    response = served.upload("lines", data)
    assert response.status_code == 422
    (action,) = served.events(response, event_type="user_action")
    assert action["details"]["bytes"] == len(data)


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        ({"name": "iris"}, 400, "file"),
        ({"file": (io.BytesIO(b"x"), "m")}, 400, "name"),
        ({"file": (io.BytesIO(b"x"), "m"), "name": "Bad Name"}, 400, "name"),
        ({"file": (io.BytesIO(b"x"), "m"), "name": "iris", "owner_id": "x"}, 400, "owner_id"),
        (
            {"file": (io.BytesIO(b"x"), "m"), "name": "01a20da4-0e78-709b-83bd-463b7c3a7006"},
            400,
            "UUID",
        ),
        (b"raw bytes", 415, "multipart"),
    ],
)
def test_an_upload_that_does_not_match_is_refused(
    world: World, data: Any, status: int, says: str
) -> None:
    content_type = "text/plain" if isinstance(data, bytes) else "multipart/form-data"
    response = world.call(
        "POST", "models/upload", world.owner, data=data, content_type=content_type
    )
    assert response.status_code == status
    assert says in response.json["message"]


@pytest.mark.parametrize(
    "disposition", ['form-data; filename="a"', "form-data; name=", "form-data"]
)
def test_a_part_without_a_name_is_refused(world: World, disposition: str) -> None:
    part = f"--b\r\nContent-Disposition: {disposition}\r\n\r\nv\r\n--b--\r\n"
    response = world.call(
        "POST",
        "models/upload",
        world.owner,
        data=part.encode(),
        content_type="multipart/form-data; boundary=b",
    )
    assert response.status_code == 400
    assert "name" in response.json["message"]


def test_uploads_of_one_name_at_once_become_consecutive_versions(world: World) -> None:
    world.owner  # noqa: B018 - made once, before the threads need it
    model = dumped(iris_pipeline)
    answers: Any = at_once(world.app, *[lambda: world.upload("iris", model)] * 4)
    assert sorted(answer.json["data"]["version"] for answer in answers) == [1, 2, 3, 4]
    assert len({answer.json["data"]["id"] for answer in answers}) == 1


def test_a_model_that_another_worker_just_deleted_is_not_found(world: World) -> None:
    owner = world.owner
    world.upload("iris", dumped(iris_pipeline))
    caller = Identity(owner.id, owner.email, "user")
    with world.app.app_context():
        world.parts.registry.resolve(caller, "iris")  # remembered, and not loaded yet
    settings = world.settings
    other = World(
        world.log_dir.parent, settings.database_url, jwt_secret_key=settings.jwt_secret_key
    )
    assert other.call("DELETE", "models/iris", owner).status_code == 200
    refused = world.predict("iris", [ROW])
    assert (refused.status_code, refused.json["error"]) == (404, "ModelNotFoundError")
    assert not world.events(level="ERROR")
    other.close()


def test_a_model_deleted_while_it_predicts_is_no_failure(world: World) -> None:
    for _ in range(5):
        world.upload("iris", dumped(iris_pipeline))

        def predict() -> list[int]:
            return [world.predict("iris", [ROW]).status_code for _ in range(20)]

        def delete() -> int:
            return world.call("DELETE", "models/iris", world.owner).status_code

        results: Any = at_once(world.app, predict, predict, delete)
        assert results[2] == 200
        assert {*results[0], *results[1]} <= {200, 404}
        assert world.predict("iris", [ROW]).status_code == 404


@pytest.mark.parametrize(
    ("on_disk", "says"),
    [
        (None, "is missing"),
        (b"", "is not the one that was stored"),
        (dumped(iris_pipeline)[:-1], "is not the one that was stored"),
        (dumped(diabetes_ridge), "is not the one that was stored"),
    ],
)
def test_a_model_whose_file_is_not_the_one_stored_is_not_served_until_it_is(
    world: World, on_disk: bytes | None, says: str
) -> None:
    uploaded = world.upload("iris", dumped(iris_pipeline)).json["data"]
    digest = uploaded["passport"]["sha256"]
    path = world.parts.store.path(digest)
    path.unlink()
    if on_disk is not None:
        path.write_bytes(on_disk)
    for _ in range(2):
        response = world.predict("iris", [ROW])
        assert (response.status_code, response.json["error"]) == (500, "ModelLoadError")
        assert response.json["message"] == f"the stored file of this model {says}"
        (failed,) = world.events(response, event_type="model_load_failed")
        assert (failed["level"], failed["reason"]) == ("ERROR", response.json["message"])
        assert (failed["model_id"], failed["digest"]) == (uploaded["id"], digest)
    assert not world.events(event_type="model_loaded")
    path.write_bytes(dumped(iris_pipeline))
    assert world.predict("iris", [ROW]).status_code == 200
    (loaded,) = world.events(event_type="model_loaded")
    assert loaded["digest"] == digest
