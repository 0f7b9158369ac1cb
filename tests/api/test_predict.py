"""What a client gets who asks for predictions."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris

from tests.estimators import cancer_forest, iris_pipeline
from tests.world import World
from webapp.logstore import queries
from webapp.logstore.reader import LogReader
from webapp.ml.engines.sklearn_engine import SklearnEngine
from webapp.services.tokens import Identity

ROW = [5.1, 3.5, 1.4, 0.2]


def test_predictions_are_those_of_scikit_learn(served: World) -> None:
    X, _ = load_iris(return_X_y=True)
    response = served.predict("iris", X.tolist(), probabilities=True)
    assert response.status_code == 200
    data = response.json["data"]
    assert data["predictions"] == iris_pipeline().predict(X).tolist()
    np.testing.assert_array_equal(data["probabilities"], iris_pipeline().predict_proba(X))
    assert data["classes"] == [0, 1, 2]
    assert data["rows"] == len(X)
    assert 0 < data["duration"] < 10


def test_a_prediction_is_three_lines_under_one_request_id(served: World) -> None:
    served.predict("iris", [ROW])  # loads the model
    response = served.call(
        "POST",
        "predictions/predict",
        served.owner,
        json={"model_id": "iris", "input_data": [ROW]},
        headers={"X-Request-ID": "three-lines-1"},
    )
    assert response.headers["X-Request-ID"] == "three-lines-1"
    started, prediction, completed = served.events(response)
    assert [started["event_type"], started["message"]] == ["request_started", "Request started"]
    assert prediction["message"] == "Prediction completed"
    assert prediction["action"] == "make_prediction"
    assert prediction["outcome"] == "success"
    assert prediction["rows"] == completed["rows"] == 1
    assert prediction["model_id"] == completed["model_id"] == response.json["data"]["model_id"]
    assert prediction["user_id"] == completed["user_id"] == served.owner.id
    assert completed["message"] == "Request completed"
    assert completed["status_code"] == 200
    assert completed["cache_hit"] is True
    assert completed["db_queries"] == 0
    assert completed["route"] == "/api/v1/predictions/predict"
    assert 0 < completed["predict_duration"] <= completed["duration"]


def test_rows_may_be_objects_by_feature_name(served: World) -> None:
    X = load_breast_cancer(as_frame=True).data.head(3)
    response = served.predict("cancer", X.to_dict("records"))
    assert response.json["data"]["predictions"] == cancer_forest().predict(X).tolist()


@pytest.mark.parametrize("suffix", ["", "@1", "@latest"])
def test_a_model_is_named_by_id_or_name_and_version(served: World, suffix: str) -> None:
    by_name = served.predict(f"iris{suffix}", [ROW])
    model_id = by_name.json["data"]["model_id"]
    by_id = served.predict(f"{model_id}{suffix}", [ROW])
    assert by_id.json["data"]["predictions"] == by_name.json["data"]["predictions"] == [0]


NAN_BODY = b'{"model_id":"iris","input_data":[[1,2,3,NaN]]}'


@pytest.mark.parametrize(
    ("input_data", "says"),
    [
        ([], "at least one row"),
        ([[]], "0 values"),
        ([[1, 2, 3]], "3"),
        ([ROW, [1, 2, 3, 4, 5]], "row 1"),
        ([ROW, [1, 2, 3, None]], "row 1, column 3 must be a finite number"),
        ([[1, 2, "three", 4]], "number"),
        ([[1, 2, True, 4]], "number"),
        ([[1, 2, [3], 4]], "number"),
        ([1, 2, 3, 4], "row"),
        ([{"sepal": 1}], "names"),
    ],
)
def test_input_that_does_not_match_is_refused_with_its_place(
    served: World, input_data: Any, says: str
) -> None:
    response = served.predict("iris", input_data)
    assert response.status_code == 400
    assert response.json["error"] == "InvalidInputError"
    assert says in response.json["message"]
    _assert_logged_failure(served, response, "InvalidInputError")


def test_a_missing_and_an_unknown_feature_are_named(served: World) -> None:
    row = load_breast_cancer(as_frame=True).data.head(1).to_dict("records")[0]
    del row["mean radius"]
    response = served.predict("cancer", [row])
    assert response.status_code == 400
    assert "mean radius" in response.json["message"]
    response = served.predict("cancer", [{**row, "mean radius": 1.0, "colour": 2.0}])
    assert response.status_code == 400
    assert "colour" in response.json["message"]


@pytest.mark.parametrize(
    "body", [NAN_BODY, NAN_BODY.replace(b"NaN", b"1e999"), NAN_BODY.replace(b"NaN", b"Infinity")]
)
def test_numbers_that_json_does_not_have_are_refused(served: World, body: bytes) -> None:
    response = served.call(
        "POST",
        "predictions/predict",
        served.owner,
        data=body,
        content_type="application/json",
    )
    assert response.status_code == 400
    assert response.json["error"] == "InvalidInputError"


def test_too_many_rows_are_refused(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = served.settings.max_rows + 1
    response = served.predict("iris", [ROW] * rows)
    assert response.status_code == 413
    assert str(rows) in response.json["message"]
    _assert_logged_failure(served, response, "PayloadTooLargeError")


@pytest.mark.parametrize("reference", ["nothing", "iris@9", "iris@production", "x" * 64])
def test_an_unknown_model_or_version_is_not_found(served: World, reference: str) -> None:
    response = served.predict(reference, [ROW])
    assert response.status_code == 404
    assert response.json["error"] == "ModelNotFoundError"
    _assert_logged_failure(served, response, "ModelNotFoundError")


def test_someone_elses_private_model_is_not_found(served: World) -> None:
    model_id = served.predict("iris", [ROW]).json["data"]["model_id"]
    foreign = served.predict(model_id, [ROW], served.stranger)
    missing = served.predict("01a20da4-0e78-709b-83bd-463b7c3a7006", [ROW], served.stranger)
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json["message"] == missing.json["message"]


def test_probabilities_need_a_model_that_has_them(served: World) -> None:
    response = served.predict("diabetes", [[0.0] * 10], probabilities=True)
    assert response.status_code == 400
    assert "probabilities" in response.json["message"]


def test_an_estimator_that_raises_is_our_failure(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "inner-workings"

    class Broken:
        def predict(self, X: Any) -> Any:
            raise ZeroDivisionError(secret)

    served.predict("iris", [ROW])
    owner = Identity(served.owner.id, served.owner.email, "user")
    with served.app.app_context():
        _, predictor = served.parts.predictions.describe(owner, "iris")
    monkeypatch.setattr(predictor, "_original", SklearnEngine(Broken()), raising=True)
    response = served.predict("iris", [ROW])
    assert response.status_code == 500
    assert response.json["error"] == "PredictionError"
    assert secret not in response.get_data(as_text=True)
    assert "Traceback" not in response.get_data(as_text=True)
    failed = served.last_event(response)
    assert failed["event_type"] == "request_failed"
    assert failed["level"] == "ERROR"
    assert secret in failed["exception"]
    assert failed["exception_type"].endswith("PredictionError")
    assert len(failed["fingerprint"]) == 12


def test_failures_of_models_are_grouped_by_what_their_estimators_raised(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def predict(self, X: Any) -> Any:
            raise self.error

    owner = Identity(served.owner.id, served.owner.email, "user")
    with served.app.app_context():
        _, predictor = served.parts.predictions.describe(owner, "iris")
    errors = [ArithmeticError("row 1"), ArithmeticError("row 2"), LookupError("token=hidden-from")]
    lines = []
    for error in errors:
        monkeypatch.setattr(predictor, "_original", SklearnEngine(Failing(error)))
        lines.append(served.last_event(served.predict("iris", [ROW])))
    first, again, other = (line["fingerprint"] for line in lines)
    assert first == again != other
    found = queries.error_groups(LogReader(served.log_dir))
    groups = {group.fingerprint: group for group in found}
    ours = "webapp.errors.PredictionError: the model failed on this input, caused by"
    assert (groups[first].count, groups[first].message) == (2, f"{ours} ArithmeticError: row 2")
    assert groups[other].message == f"{ours} LookupError: token=[redacted]"


def test_history_is_the_callers_own(served: World) -> None:
    served.predict("iris", [ROW])
    served.predict("iris", [[1, 2, 3]])
    response = served.call("GET", "predictions?per_page=2", served.owner)
    assert response.status_code == 200
    newest, before = response.json["data"]["items"]
    assert (newest["outcome"], before["outcome"]) == ("failure", "success")
    assert response.json["data"]["total"] > 2
    other = served.person("nobody@example.com")
    assert served.call("GET", "predictions", other).json["data"]["items"] == []


def _assert_logged_failure(served: World, response: Any, error: str) -> None:
    (prediction,) = served.events(response, event_type="prediction")
    assert prediction["level"] == "WARNING"
    assert prediction["outcome"] == "failure"
    assert prediction["error"] == error
    assert prediction["reason"] == response.json["message"]
    completed = served.last_event(response)
    assert completed["event_type"] == "request_completed"
    assert completed["error"] == error
    assert completed["status_code"] == response.status_code
