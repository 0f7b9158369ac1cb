"""What becomes of a model that workers die of, seen by its users and in the log."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.estimators import diabetes_ridge, dumped, iris_pipeline
from tests.world import World
from webapp.cli.models import models
from webapp.ml.attempts import Death

ROW = [5.1, 3.5, 1.4, 0.2]


def upload(world: World, name: str = "iris", fit: Any = iris_pipeline) -> tuple[str, str]:
    """Upload a model; return its id and digest."""
    data = world.upload(name, dumped(fit)).json["data"]
    return data["id"], data["passport"]["sha256"]


def die(world: World, *digests: str, reason: Any = "crashed") -> None:
    """Let a worker have died with these in hand."""
    with world.app.app_context():
        world.parts.quarantine.record(Death(reason, 4711, frozenset(digests)))
    world.parts.registry.forget()


def release(world: World, reference: str) -> Result:
    """Release as an operator does."""
    result = world.app.test_cli_runner().invoke(models, ["release", reference])
    world.parts.registry.forget()
    return result


def test_the_second_strike_is_the_quarantine(world: World) -> None:
    model_id, digest = upload(world)
    die(world, digest)
    assert world.predict("iris", [ROW]).status_code == 200
    die(world, digest, reason="stalled")

    refused = world.predict("iris", [ROW])
    assert refused.status_code == 409
    assert refused.json["error"] == "ConflictError"
    assert "quarantined" in refused.json["message"]
    version = world.call("GET", "models/iris", world.owner).json["data"]["versions"][0]
    assert version["state"] == "quarantined"
    first, second = world.events(event_type="model_struck")
    (quarantined,) = world.events(event_type="model_quarantined")
    about = {"model_id": model_id, "model_name": "iris", "model_version": 1, "digest": digest}
    for line, strikes, level in ((first, 1, "WARNING"), (second, 2, "WARNING")):
        assert line.items() >= {**about, "strikes": strikes, "level": level}.items()
    assert (first["reason"], second["reason"]) == ("a worker crashed", "a worker stalled")
    assert quarantined.items() >= {**about, "strikes": 2, "level": "ERROR"}.items()
    assert quarantined["details"]["worker_pid"] == 4711


def test_another_strike_is_not_another_quarantine(world: World) -> None:
    _, digest = upload(world)
    for _ in range(3):
        die(world, digest)
    assert len(world.events(event_type="model_struck")) == 3
    assert len(world.events(event_type="model_quarantined")) == 1


def test_several_suspects_share_a_strike(world: World) -> None:
    _, iris = upload(world)
    _, ridge = upload(world, "ridge", diabetes_ridge)
    die(world, iris, ridge)
    die(world, iris, ridge)
    assert {line["strikes"] for line in world.events(event_type="model_struck")} == {0.5, 1}
    die(world, iris)
    (quarantined,) = world.events(event_type="model_quarantined")
    assert quarantined["model_name"] == "iris"
    assert world.predict("ridge", [[0.0] * 10]).status_code == 200


def test_every_version_of_the_same_bytes_is_quarantined(world: World) -> None:
    _, digest = upload(world)
    upload(world)
    upload(world, "twin")
    upload(world, "ridge", diabetes_ridge)
    die(world, digest)
    die(world, digest)
    codes = [world.predict(name, [ROW]).status_code for name in ("iris@1", "iris@2", "twin")]
    assert codes == [409, 409, 409]
    assert world.predict("ridge", [[0.0] * 10]).status_code == 200
    names = [line["model_name"] for line in world.events(event_type="model_quarantined")]
    assert sorted(names) == ["iris", "iris", "twin"]


@pytest.mark.parametrize("deleted", [False, True])
def test_uploading_the_same_bytes_again_lifts_nothing(world: World, deleted: bool) -> None:
    _, digest = upload(world)
    die(world, digest)
    die(world, digest)
    if deleted:
        assert world.call("DELETE", "models/iris", world.owner).status_code == 200

    response = world.upload("again", dumped(iris_pipeline))

    assert response.status_code == 422
    assert response.json["error"] == "ModelRejectedError"
    assert response.json["details"]["reason"] == "quarantined"
    (action,) = world.events(response, event_type="user_action")
    assert action.items() >= {"outcome": "failure", "reason": "quarantined"}.items()
    assert action["details"]["sha256"] == digest
    kept = list(Path(world.settings.instance_path, "models").rglob("*.joblib"))
    assert len(kept) == (0 if deleted else 1)


@pytest.mark.parametrize("by_version", [False, True])
def test_an_operator_releases_it(world: World, by_version: bool) -> None:
    model_id, digest = upload(world)
    die(world, digest)
    die(world, digest)

    result = release(world, f"{model_id}@1" if by_version else digest)

    assert result.exit_code == 0, result.output
    assert result.stdout == f"iris@1 is released; id {model_id}\n"
    assert world.predict("iris", [ROW]).status_code == 200
    assert world.upload("again", dumped(iris_pipeline)).status_code == 201
    (action,) = world.events(event_type="user_action", action="release_model")
    expected = {"outcome": "success", "actor": "cli", "model_id": model_id, "digest": digest}
    assert action.items() >= expected.items()
    die(world, digest)
    assert world.predict("iris", [ROW]).status_code == 200, "it begins again with no strike"


def test_what_has_no_strikes_is_not_released(world: World) -> None:
    model_id, digest = upload(world)
    for reference in (digest, f"{model_id}@1", f"{model_id}@7", "iris", "a\x1b[31m" * 100):
        result = release(world, reference)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ")
    actions = world.events(event_type="user_action", action="release_model")
    assert {(line["outcome"], line["actor"]) for line in actions} == {("failure", "cli")}
    assert len(actions) == 5


def test_a_model_that_is_gone_by_then_is_no_error(world: World) -> None:
    die(world, "00" * 32)
    assert world.events(level="ERROR") == []


def test_a_strike_that_cannot_be_recorded_is_in_the_log(world: World) -> None:
    _, digest = upload(world)
    world.parts.store.root = Path("/dev/null/models")
    die(world, digest)
    (line,) = world.events(message="Strike not recorded")
    assert line["level"] == "ERROR"
    assert line["details"] == {"suspects": [digest]}
