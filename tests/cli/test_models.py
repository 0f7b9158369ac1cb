"""``flask models inspect``: files are described, and never loaded."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask.testing import FlaskCliRunner
from sqlalchemy import select

from tests import estimators
from tests.estimators import dumped, saved_with
from tests.unit.ml import hostile
from tests.world import World
from webapp.cli.models import models
from webapp.db.engine import write_transaction
from webapp.db.tables import ModelVersion
from webapp.ml.passport import Compilation
from webapp.services import compilations


def run(served: World, file: Path, *options: str) -> Result:
    """Inspect a file as an operator does."""
    runner: FlaskCliRunner = served.app.test_cli_runner()
    return runner.invoke(models, ["inspect", str(file), *options])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.joblib"


def test_an_honest_file_is_described(served: World, file: Path) -> None:
    file.write_bytes(dumped(estimators.wine_columns))
    result = run(served, file)
    assert result.exit_code == 0
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["verdict"] == "allowed"
    assert found["bytes"] == file.stat().st_size
    assert found["refusals"] == []
    assert found["sklearn_version"]
    assert found["parts"][0]["name"] == "Pipeline"
    names = [part["name"] for part in found["parts"]]
    assert {"ColumnTransformer", "StandardScaler", "LogisticRegression"} <= set(names)
    used = {each["name"]: each["role"] for each in found["names"]}
    assert used["sklearn.pipeline.Pipeline"] == "instance"
    assert used["numpy.dtype"] == "called"


def test_a_file_of_an_allowed_version_is_allowed(
    tmp_path: Path, database_url: str, served: World, file: Path
) -> None:
    file.write_bytes(saved_with("1.2.3", dumped(estimators.iris_pipeline)))
    result = run(served, file)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["refusals"][0]["reason"] == "wrong_sklearn_version"
    allowing = World(tmp_path, database_url, sklearn_versions=("1.2",))
    found = json.loads(run(allowing, file).stdout)
    assert (found["verdict"], found["sklearn_version"]) == ("allowed", "1.2.3")
    allowing.close()


def test_every_name_that_is_not_allowed_is_told(served: World, file: Path) -> None:
    file.write_bytes(
        hostile.stream(
            hostile.name("os", "system"),
            hostile.text("true"),
            b"\x85R0",
            hostile.name("evil.package", "Model"),
            b")\x81}b",
        )
    )
    result = run(served, file)
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["verdict"] == "refused"
    refused = [each["global"] for each in found["refusals"]]
    assert refused == ["os.system", "evil.package.Model"]
    assert found["parts"] == [{"depth": 0, "place": "", "name": "Model"}]


def test_nothing_of_a_file_is_run(served: World, file: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pwned"
    for data, name in hostile.forbidden_names(marker).values():
        file.write_bytes(data)
        result = run(served, file)
        assert result.exit_code == 1, name
        assert json.loads(result.stdout)["refusals"]
        assert not marker.exists()


@pytest.mark.parametrize("damage", hostile.damaged_files())
def test_a_damaged_file_is_told_from_a_whole_one(damage: str, served: World, file: Path) -> None:
    data, reason = hostile.damaged_files()[damage]
    file.write_bytes(data)
    found = json.loads(run(served, file).stdout)
    if reason not in ("not_an_estimator",):  # which only shows once it is made
        assert found["refusals"][0]["reason"] == reason


def test_a_reader_sees_the_tree_and_the_verdict(served: World, file: Path) -> None:
    file.write_bytes(dumped(estimators.iris_pipeline))
    shown = run(served, file, "--format", "table").stdout
    assert "Pipeline" in shown
    assert "steps[0][1]: StandardScaler" in shown
    assert "allowed" in shown


def test_a_file_cannot_write_to_the_terminal(served: World, file: Path) -> None:
    file.write_bytes(hostile.stream(hostile.name("evil\x1b[2J", "x\u202e"), b")\x81"))
    shown = run(served, file, "--format", "table").stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "refused, global_not_allowed" in shown


def verify(world: World, model: str) -> Result:
    """Verify a model as an operator does."""
    runner: FlaskCliRunner = world.app.test_cli_runner()
    return runner.invoke(models, ["verify", model])


def test_verifying_compiles_a_model_whose_compiling_never_ended(world: World) -> None:
    new = world.upload("iris", estimators.iris_pipeline()).json["data"]
    result = verify(world, f"{new['id']}@1")
    assert result.exit_code == 0
    assert result.stdout.startswith("iris@1: equal on ")
    model = world.call("GET", "models/iris", world.owner).json["data"]
    assert model["versions"][0]["passport"]["compilation"]["engine"] == "onnx"
    (action,) = world.events(action="verify_model")
    assert (action["actor"], action["outcome"], action["model_version"]) == ("cli", "success", 1)


def test_verifying_takes_the_engine_from_a_model_that_is_not_equal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = world.upload("iris", estimators.iris_pipeline()).json["data"]
    assert verify(world, new["id"]).exit_code == 0
    refused = Compilation("sklearn", "3 of 1,000 labels differ", 0.1)
    monkeypatch.setattr(compilations, "compile_model", lambda *args, **named: (refused, b""))
    result = verify(world, new["id"])
    assert result.exit_code == 1
    assert result.stdout == "iris@1: stays on scikit-learn: 3 of 1,000 labels differ\n"
    model = world.call("GET", "models/iris", world.owner).json["data"]
    assert model["versions"][0]["passport"]["compilation"]["engine"] == "sklearn"
    (failed,) = world.events(action="verify_model", outcome="failure")
    assert failed["reason"] == "3 of 1,000 labels differ"


def test_verifying_a_model_by_its_name_says_that_an_id_is_needed(world: World) -> None:
    world.upload("iris", estimators.iris_pipeline())
    result = verify(world, "iris@1")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: no model has this id: name it ID or ID@VERSION; a name is known to its owner only\n"
    )


def test_verifying_a_version_replaces_what_its_sample_showed_and_no_other(world: World) -> None:
    found = Compilation("sklearn", "1 of 3 labels differ", 0.1, sampled=True)
    model = dumped(estimators.iris_pipeline)
    ids = [world.upload(name, model).json["data"]["id"] for name in ("named", "other")]
    with world.app.app_context(), write_transaction() as session:
        for version in session.scalars(select(ModelVersion)):
            version.passport = {**version.passport, "compilation": asdict(found)}
    assert verify(world, ids[0]).exit_code == 0
    models = [world.call("GET", f"models/{each}", world.owner).json["data"] for each in ids]
    named, other = (model["versions"][0]["passport"]["compilation"] for model in models)
    assert (named["engine"], named["sampled"]) == ("onnx", False)
    assert other == asdict(found)


def test_verifying_what_is_not_there_is_one_line(world: World) -> None:
    result = verify(world, "01a20da4-0e78-709b-83bd-463b7c3a7006")
    assert result.exit_code == 1
    assert "there is no such model" in result.stderr
