"""What a client gets who speaks the REST API of TensorFlow Serving."""

from typing import Any

import pytest
from sklearn.datasets import load_breast_cancer, load_iris

from tests.estimators import cancer_forest, iris_pipeline, iris_vectors
from tests.world import World
from webapp.db.tables import ModelVersion
from webapp.extensions import db

IRIS = load_iris().data
ROWS = IRIS.tolist()
CANCER = load_breast_cancer(as_frame=True).data.head(3)


def predict(world: World, model: str, **body: Any) -> Any:
    return world.call("POST", f"//v1/models/{model}:predict", world.owner, json=body)


def test_instances_give_predictions_and_inputs_give_outputs(served: World) -> None:
    expected = iris_pipeline().predict(IRIS).tolist()
    answer = predict(served, "iris", instances=ROWS, signature_name="serving_default")
    assert answer.json == {"predictions": expected}
    for inputs in (ROWS, {"x": ROWS}, dict(zip("abcd", IRIS.T.tolist(), strict=True))):
        assert predict(served, "iris", inputs=inputs).json == {"outputs": expected}


def test_columns_are_known_by_their_names(served: World) -> None:
    expected = cancer_forest().predict(CANCER).tolist()
    answer = predict(served, "cancer", instances=CANCER.to_dict("records"))
    assert answer.json == {"predictions": expected}
    backwards = CANCER[list(CANCER.columns)[::-1]]
    assert predict(served, "cancer", inputs=backwards.to_dict("list")).json == {"outputs": expected}


def test_it_is_three_lines_like_any_prediction(served: World) -> None:
    started, prediction, completed = served.events(predict(served, "iris", instances=ROWS))
    assert started["event_type"] == "request_started"
    assert (prediction["outcome"], prediction["rows"]) == ("success", 150)
    assert completed["route"] == "/v1/models/<model>:predict"


def test_versions_and_labels_stand_in_the_path(world: World) -> None:
    for estimator in (iris_pipeline(), iris_vectors()):
        world.upload("iris", estimator)
    world.call("PUT", "models/iris/aliases/production", world.owner, json={"version": 1})
    for path, label in (
        ("iris/versions/1", 0),
        ("iris/versions/2", "setosa"),
        ("iris/labels/production", 0),
        ("iris/labels/latest", "setosa"),
        ("iris", "setosa"),
        ("iris@1", 0),
    ):
        assert predict(world, path, instances=ROWS[:1]).json == {"predictions": [label]}
    assert predict(world, "iris/versions/9", instances=ROWS).status_code == 404


def test_status_tells_which_versions_there_are(world: World) -> None:
    for estimator in (iris_pipeline(), iris_vectors()):
        world.upload("iris", estimator)

    def ask(path: str) -> Any:
        return world.call("GET", f"//v1/models/iris{path}", world.owner)

    first = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    assert ask("/versions/1").json == {"model_version_status": [first]}
    assert ask("").json["model_version_status"] == [{**first, "version": "2"}, first]
    assert ask("/labels/latest").json["model_version_status"][0]["version"] == "2"
    with world.app.app_context():
        db.session.query(ModelVersion).filter_by(version=2).update({"state": "quarantined"})
        db.session.commit()
    world.parts.registry.forget()
    assert ask("").json["model_version_status"][0]["state"] == "END"
    refused = ask("/versions/2")
    assert (refused.status_code, list(refused.json)) == (409, ["error"])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "exactly one of"),
        ({"instances": ROWS, "inputs": ROWS}, "exactly one of"),
        ({"instances": []}, "at least one row"),
        ({"instances": "rows"}, "instances"),
        ({"instances": [1.0]}, "row 0 has 1 value"),
        ({"inputs": {"x": 5}}, "a list of values"),
        ({"instances": [[5, 3, None, 1]]}, "row 0, column 2"),
    ],
)
def test_what_does_not_match_is_refused_in_the_protocols_form(
    served: World, body: Any, says: str
) -> None:
    response = predict(served, "iris", **body)
    assert response.status_code == 400
    assert list(response.json) == ["error"]
    assert says in response.json["error"]
    assert served.last_event(response)["error"] == "InvalidInputError"


def test_who_may_not_see_a_model_is_told_so_in_the_protocols_form(served: World) -> None:
    for path in ("iris", "iris/versions/1", "iris/labels/latest"):
        unknown = served.call("GET", f"//v1/models/{path}", served.stranger)
        assert (unknown.status_code, list(unknown.json)) == (404, ["error"])
    body = {"instances": ROWS}
    anonymous = served.call("POST", "//v1/models/iris:predict", json=body)
    assert (anonymous.status_code, list(anonymous.json)) == (401, ["error"])
    assert served.call("POST", "//v1/models/iris:classify", served.owner).status_code == 405
