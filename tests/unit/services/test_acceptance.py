"""Models that an older program accepted: judged again before they are served, and what then."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, normalize

from tests.estimators import diabetes_ridge, dumped, iris_pipeline, saved_with
from tests.world import World
from webapp.cli.models import models
from webapp.cli.service import prepare
from webapp.db.tables import DueCompilation, ModelVersion
from webapp.extensions import db
from webapp.ml.attempts import Death
from webapp.ml.loading import POLICY_VERSION, TERMS, policy

IRIS, DIABETES = [[5.1, 3.5, 1.4, 0.2]], [[0.0] * 10]
TRUSTED = "sklearn.preprocessing._data.normalize"


def age(world: World, **changes: Any) -> None:
    """Let all versions have been accepted by an older program."""
    with world.app.app_context():
        db.session.query(ModelVersion).update({"judged_under": "policy 1, scikit-learn 1.9.0"})
        for version in db.session.query(ModelVersion):
            version.passport = {**version.passport, **changes}
        db.session.commit()
    world.parts.registry.forget()


def command(world: World, *arguments: str) -> Result:
    """Run ``flask models`` as an operator does; the workers know 2 s later."""
    result = world.app.test_cli_runner().invoke(models, arguments)
    world.parts.registry.forget()
    return result


def restarted(world: World, **overrides: Any) -> World:
    """Start the same service again with other settings."""
    world.close()
    again = World(
        world.log_dir.parent,
        world.settings.database_url,
        jwt_secret_key=world.settings.jwt_secret_key,
        **overrides,
    )
    again.__dict__["owner"] = world.owner
    return again


def version_of(world: World, name: str) -> dict[str, Any]:
    """What the owner reads about the first version of a model."""
    version: dict[str, Any] = world.call("GET", f"models/{name}", world.owner).json["data"][
        "versions"
    ][0]
    return version


@pytest.fixture
def aged(world: World) -> World:
    """A program with two models that an older one accepted."""
    world.upload("iris", dumped(iris_pipeline))
    world.upload("ridge", dumped(diabetes_ridge))
    age(world)
    return world


def test_a_model_is_served_under_the_terms_it_was_accepted_under(world: World) -> None:
    world.upload("iris", dumped(iris_pipeline))
    assert version_of(world, "iris")["state"] == "ready"
    assert command(world, "revalidate").exit_code == 0
    assert world.predict("iris", IRIS).status_code == 200


def test_what_an_older_program_accepted_waits_to_be_judged_again(aged: World) -> None:
    refused = aged.predict("iris", IRIS)
    assert (refused.status_code, refused.json["error"]) == (503, "ServiceUnavailableError")
    assert "flask models revalidate" in refused.json["message"]
    assert version_of(aged, "iris")["state"] == "revalidate"
    ready = aged.call("GET", "//v2/models/iris/ready", aged.owner)
    assert ready.status_code == 503
    status = aged.call("GET", "//v1/models/iris", aged.owner).json["model_version_status"][0]
    assert status["state"] == "END"
    assert aged.call("GET", "models/iris/download", aged.owner).status_code == 200


def test_preparing_judges_it_again_and_it_is_served(aged: World) -> None:
    result = aged.app.test_cli_runner().invoke(prepare)
    aged.parts.registry.forget()
    assert result.exit_code == 0, result.output
    assert f"2 model files are checked again, by {TERMS}\n" in result.stdout
    assert "iris@1 is accepted; id " in result.stdout
    assert aged.predict("iris", IRIS).status_code == 200
    assert aged.predict("ridge", DIABETES).status_code == 200
    actions = aged.events(event_type="user_action", action="revalidate_model")
    assert sorted(line["model_name"] for line in actions) == ["iris", "ridge"]
    assert {(line["outcome"], line["actor"]) for line in actions} == {("success", "cli")}
    again = aged.app.test_cli_runner().invoke(prepare)
    assert "checked again" not in again.stdout


def rename(table: str, name: str) -> None:
    """Give a table another name; no session may be reading it then."""
    db.session.rollback()
    with db.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")


def test_a_start_says_how_many_versions_wait(aged: World) -> None:
    with aged.app.app_context():
        aged.parts.acceptance.warn_of_stale()
        (line,) = aged.events(logger="webapp.services.acceptance")
        assert (line["level"], line["details"]) == ("WARNING", {"versions": 2})
        assert "flask models revalidate" in line["message"]
        command(aged, "revalidate")
        aged.parts.acceptance.warn_of_stale()
        assert len(aged.events(logger="webapp.services.acceptance")) == 1, "none waits now"
        rename("model_versions", "elsewhere")
        try:
            aged.parts.acceptance.warn_of_stale()
        finally:
            rename("elsewhere", "model_versions")
        assert aged.events(logger="webapp.services.acceptance")[1]["level"] == "ERROR"


def test_one_model_can_be_judged_alone(aged: World) -> None:
    model_id = aged.call("GET", "models/iris", aged.owner).json["data"]["id"]
    result = command(aged, "revalidate", f"{model_id}@1")
    assert (result.exit_code, result.stdout) == (0, f"iris@1 is accepted; id {model_id}\n")
    assert aged.predict("iris", IRIS).status_code == 200
    assert aged.predict("ridge", DIABETES).status_code == 503
    assert command(aged, "revalidate", model_id).exit_code == 0


@pytest.mark.parametrize("reference", ["iris", "01a20da4-0e78-709b-83bd-463b7c3a7006", "x@1"])
def test_what_is_not_there_is_one_line(aged: World, reference: str) -> None:
    result = command(aged, "revalidate", reference)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: there is no such model or version")


def test_what_is_not_accepted_any_more_says_why(aged: World) -> None:
    stricter = restarted(aged, max_features=5)
    result = stricter.app.test_cli_runner().invoke(prepare)
    assert result.exit_code == 0, result.output
    why = "the model takes 10 features, and at most 5 are allowed here"
    assert f"ridge@1 is rejected: {why}; id " in result.stdout
    assert stricter.predict("iris", IRIS).status_code == 200
    refused = stricter.predict("ridge", DIABETES)
    assert (refused.status_code, refused.json["error"]) == (409, "ConflictError")
    assert why in refused.json["message"]
    assert refused.json["details"] == {"reason": "limits"}
    version = version_of(stricter, "ridge")
    assert version["state"] == "rejected"
    assert version["refusal"] == {"reason": "limits", "message": why}
    alias = stricter.call(
        "PUT", "models/ridge/aliases/production", stricter.owner, json={"version": 1}
    )
    assert alias.status_code == 409
    (failed,) = stricter.events(action="revalidate_model", outcome="failure")
    assert (failed["reason"], failed["level"]) == ("limits", "WARNING")

    laxer = restarted(stricter)
    assert command(laxer, "revalidate").exit_code == 0
    assert laxer.predict("ridge", DIABETES).status_code == 200
    assert version_of(laxer, "ridge")["refusal"] is None
    laxer.close()


def test_a_quarantined_model_stays_so(aged: World) -> None:
    digest = version_of(aged, "iris")["sha256"]
    with aged.app.app_context():
        for _ in range(2):
            aged.parts.quarantine.record(Death("crashed", 1, frozenset({digest})))
    assert command(aged, "revalidate").exit_code == 0
    refused = aged.predict("iris", IRIS)
    assert (refused.status_code, version_of(aged, "iris")["state"]) == (409, "quarantined")
    assert command(aged, "release", digest).exit_code == 0
    assert aged.predict("iris", IRIS).status_code == 200


def test_a_file_that_is_gone_is_not_judged(aged: World) -> None:
    digest = version_of(aged, "iris")["sha256"]
    Path(aged.parts.store.path(digest)).unlink()
    result = command(aged, "revalidate")
    assert result.exit_code == 1
    assert "iris@1 is not judged: " in result.stdout
    assert "ridge@1 is accepted" in result.stdout
    assert version_of(aged, "iris")["state"] == "revalidate"
    assert aged.app.test_cli_runner().invoke(prepare).exit_code == 0, "the others are served"


@pytest.mark.parametrize(("before", "is_kept"), [("1.8.0", False), (None, True)])
def test_what_was_compared_with_another_scikit_learn_is_compared_again(
    world: World, before: str | None, is_kept: bool
) -> None:
    new = world.upload("iris", dumped(iris_pipeline)).json["data"]
    assert world.app.test_cli_runner().invoke(models, ["verify", new["id"]]).exit_code == 0
    with world.app.app_context():
        db.session.query(DueCompilation).delete()
        db.session.commit()
    age(world, **({"sklearn_version_here": before} if before else {}))
    assert command(world, "revalidate").exit_code == 0
    compilation = version_of(world, "iris")["passport"]["compilation"]
    assert (compilation is not None) == is_kept
    with world.app.app_context():
        assert db.session.query(DueCompilation).count() == (0 if is_kept else 1)


def test_a_name_that_is_not_trusted_any_more_is_told(world: World) -> None:
    trusting = restarted(world, trusted_globals=(TRUSTED,))
    X, y = [[3.0, 4.0], [1.0, 0.0]], [1.0, 2.0]
    model = make_pipeline(FunctionTransformer(normalize), Ridge()).fit(X, y)
    assert trusting.upload("unit", model).status_code == 201
    assert trusting.predict("unit", X).status_code == 200

    wary = restarted(trusting)
    refused = wary.predict("unit", X)
    assert (refused.status_code, refused.json["error"]) == (409, "ConflictError")
    assert TRUSTED in refused.json["message"]
    assert refused.json["details"]["reason"] == "global_not_allowed"
    (line,) = wary.events(event_type="model_load_failed")
    assert TRUSTED in line["reason"]
    assert command(wary, "revalidate").exit_code == 1
    assert version_of(wary, "unit")["state"] == "rejected"

    trusting = restarted(wary, trusted_globals=(TRUSTED,))
    assert command(trusting, "revalidate").exit_code == 0
    assert trusting.predict("unit", X).status_code == 200
    trusting.close()


def test_a_version_of_scikit_learn_that_is_not_allowed_any_more_waits_and_is_refused(
    world: World,
) -> None:
    old = saved_with("1.2.3", dumped(iris_pipeline))
    refused = world.upload("old", old)
    assert (refused.status_code, refused.json["error"]) == (422, "ModelRejectedError")
    assert refused.json["details"]["reason"] == "wrong_sklearn_version"
    assert "ask the operator to allow 1.2" in refused.json["message"]

    allowing = restarted(world, sklearn_versions=("1.2",))
    model_id = allowing.upload("old", old).json["data"]["id"]
    allowing.upload("new", dumped(iris_pipeline))
    assert allowing.predict("old", IRIS).json["data"]["predictions"] == [0]
    assert version_of(allowing, "old")["passport"]["sklearn_version"] == "1.2.3"
    verified = command(allowing, "verify", model_id)
    assert "served by ONNX Runtime" in verified.stdout, "the child that compiles loads it too"
    assert command(allowing, "revalidate").exit_code == 0

    wary = restarted(allowing)
    waits = wary.predict("old", IRIS)
    assert (waits.status_code, waits.json["error"]) == (503, "ServiceUnavailableError")
    assert version_of(wary, "old")["state"] == "revalidate"
    assert wary.predict("new", IRIS).status_code == 200, "it does not depend on the setting"
    prepared = wary.app.test_cli_runner().invoke(prepare).stdout
    wary.parts.registry.forget()
    assert "1 model files are checked again" in prepared
    assert "old@1 is rejected: the model was saved with scikit-learn 1.2.3" in prepared
    refused = wary.predict("old", IRIS)
    assert (refused.status_code, refused.json["details"]) == (
        409,
        {"reason": "wrong_sklearn_version"},
    )
    assert "checked again" not in wary.app.test_cli_runner().invoke(prepare).stdout

    again = restarted(wary, sklearn_versions=("1.1", "1.2"))
    assert version_of(again, "old")["state"] == "revalidate"
    assert "old@1 is accepted" in again.app.test_cli_runner().invoke(prepare).stdout
    again.parts.registry.forget()
    assert again.predict("old", IRIS).status_code == 200
    again.close()


def test_a_worker_loads_no_version_that_is_not_allowed_whatever_was_recorded(world: World) -> None:
    allowing = restarted(world, sklearn_versions=("1.2",))
    allowing.upload("old", saved_with("1.2.3", dumped(iris_pipeline)))
    with allowing.app.app_context():
        db.session.query(ModelVersion).update({"judged_under": TERMS})
        db.session.commit()
    wary = restarted(allowing)
    refused = wary.predict("old", IRIS)
    assert (refused.status_code, refused.json["error"]) == (409, "ConflictError")
    assert refused.json["details"] == {"reason": "wrong_sklearn_version"}
    wary.close()


def test_another_table_of_names_comes_with_another_version() -> None:
    tables = (policy.INSTANCES, sorted(policy.BUILT), sorted(policy.CALLED), policy.VALUES)
    functions = {name: sorted(allowed) for name, allowed in policy.FUNCTION_ATTRIBUTES.items()}
    written = repr((*tables, functions)).encode()
    digest = hashlib.sha256(written).hexdigest()[:16]
    assert (POLICY_VERSION, digest) == (4, "1aed2912d1298d69"), (
        "raise POLICY_VERSION, and put both here"
    )
