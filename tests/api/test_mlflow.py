"""What a client gets who speaks MLflow's scoring protocol."""

from typing import Any

import pytest
from sklearn.datasets import load_breast_cancer, load_iris

from tests.estimators import cancer_forest, description_text, iris_pipeline
from tests.world import World
from webapp.extensions import db

IRIS = load_iris().data
ROWS = IRIS.tolist()
CANCER = load_breast_cancer(as_frame=True).data.head(3)
NAMES = ["a", "b", "c", "d"]


def score(world: World, model: str, **body: Any) -> Any:
    return world.call("POST", f"//invocations/{model}", world.owner, json=body)


SHAPES: dict[str, Any] = {
    "split": {"dataframe_split": {"columns": NAMES, "data": ROWS, "index": [7] * 150}},
    "numbered": {"dataframe_split": {"columns": [0, 1, 2, 3], "data": ROWS}},
    "records": {"dataframe_records": [dict(zip(NAMES, row, strict=True)) for row in ROWS]},
    "instances": {"instances": ROWS},
    "inputs": {"inputs": ROWS},
    "columns": {"inputs": dict(zip(NAMES, IRIS.T.tolist(), strict=True))},
    "upright": {"inputs": dict(zip(NAMES, IRIS.T[:, :, None].tolist(), strict=True))},
    "one tensor": {"inputs": {"input": ROWS}},
    "params": {"instances": ROWS, "params": {"temperature": 1}},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_predictions_are_those_of_scikit_learn(served: World, shape: str) -> None:
    response = score(served, "iris", **SHAPES[shape])
    assert response.status_code == 200
    assert response.json == {"predictions": iris_pipeline().predict(IRIS).tolist()}


def test_columns_are_known_by_their_names(served: World) -> None:
    frame = CANCER[sorted(CANCER.columns)]
    split = frame.to_dict("split")
    for body in (
        {"dataframe_split": {"columns": split["columns"], "data": split["data"]}},
        {"dataframe_records": frame.to_dict("records")},
        {"instances": frame.to_dict("records")},
        {"inputs": frame.to_dict("list")},
    ):
        answer = score(served, "cancer", **body).json
        assert answer == {"predictions": cancer_forest().predict(CANCER).tolist()}


def test_csv_has_a_header_unless_it_says_otherwise(served: World) -> None:
    lines = "".join(",".join(map(str, row)) + "\n" for row in ROWS)
    for head, kind in (
        ("0,1,2,3\n", "text/csv"),
        ("a,b,c,d\n", "text/csv; charset=utf-8"),
        ("", "text/csv; header=absent"),
    ):
        answer = served.call(
            "POST", "//invocations/iris", served.owner, data=head + lines, content_type=kind
        )
        assert answer.json == {"predictions": iris_pipeline().predict(IRIS).tolist()}


def test_a_text_model_takes_texts(world: World) -> None:
    world.upload("text", description_text())
    texts = ["petal and sepal", "wine of three cultivars"]
    expected = {"predictions": description_text().predict(texts).tolist()}
    for body in (
        {"instances": texts},
        {"inputs": texts},
        {"inputs": {"text": texts}},
        {"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}},
        {"dataframe_records": [{"text": text} for text in texts]},
    ):
        assert score(world, "text", **body).json == expected


def test_it_is_three_lines_like_any_prediction(served: World) -> None:
    started, prediction, completed = served.events(score(served, "iris@1", instances=ROWS))
    assert started["event_type"] == "request_started"
    assert (prediction["event_type"], prediction["rows"]) == ("prediction", 150)
    assert completed["route"] == "/invocations/<model>"
    assert (completed["model_version"], completed["rows"]) == (1, 150)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "exactly one of"),
        ({"instances": ROWS, "inputs": ROWS}, "exactly one of"),
        ({"instances": []}, "at least one row"),
        ({"instances": 5}, "instances"),
        ({"inputs": {}}, "0 columns"),
        ({"inputs": {"a": [1, 2], "b": [1], "c": [1], "d": [1]}}, "same number of values"),
        ({"inputs": {"a": [[1, 2]], "b": [1], "c": [1], "d": [1]}}, "row 0, column 0"),
        ({"inputs": {"a": 1}}, "a list of values"),
        ({"dataframe_split": {"columns": NAMES[:3], "data": ROWS}}, "3 columns"),
        ({"dataframe_split": {"columns": NAMES, "data": [[1, 2, 3]]}}, "row 0 has 3 values"),
        ({"dataframe_split": {"data": ROWS}}, "columns"),
        ({"dataframe_records": [{"a": 1, "b": 2, "c": 3, "d": None}]}, "row 0, column 3"),
        ({"dataframe_records": [{"a": 1, "b": 2, "c": 3, "d": 4}, {}]}, "row 1"),
        ({"dataframe_records": [1]}, "dataframe_records"),
    ],
)
def test_what_does_not_match_is_refused_in_the_protocols_form(
    served: World, body: Any, says: str
) -> None:
    response = score(served, "iris", **body)
    assert response.status_code == 400
    assert set(response.json) == {"error_code", "message", "request_id"}
    assert response.json["error_code"] == "BAD_REQUEST"
    assert response.json["request_id"] == response.headers["X-Request-ID"]
    assert says in response.json["message"]
    assert served.last_event(response)["error"] == "InvalidInputError"


def test_names_that_are_not_the_models_are_refused(served: World) -> None:
    frame = CANCER.rename(columns={"mean radius": "radius"})
    split = frame.to_dict("split")
    for body in (
        {"dataframe_split": {"columns": split["columns"], "data": split["data"]}},
        {"dataframe_records": frame.to_dict("records")},
        {"inputs": frame.to_dict("list")},
    ):
        response = score(served, "cancer", **body)
        assert response.status_code == 400
        assert "'mean radius'" in response.json["message"]


def test_every_failure_has_the_protocols_form(served: World) -> None:
    body = {"instances": ROWS}
    failures = {
        "UNAUTHENTICATED": served.call("POST", "//invocations/iris", json=body),
        "RESOURCE_DOES_NOT_EXIST": served.call(
            "POST", "//invocations/iris", served.stranger, json=body
        ),
        "BAD_REQUEST": served.call("POST", "//invocations/iris", served.owner, data="{}"),
    }
    for code, response in failures.items():
        assert response.json["error_code"] == code
    assert failures["BAD_REQUEST"].status_code == 415
    too_many = score(served, "iris", instances=[[1, 2, 3, 4]] * (served.settings.max_rows + 1))
    assert (too_many.status_code, too_many.json["error_code"]) == (413, "BAD_REQUEST")


def test_a_key_that_may_only_predict_will_do(served: World) -> None:
    made = {"name": "scoring", "scopes": ["predict"]}
    key = served.call("POST", "auth/api-keys", served.owner, json=made).json["data"]["key"]
    headers = {"Authorization": f"Bearer {key}"}
    answer = served.call("POST", "//invocations/iris", json={"inputs": ROWS}, headers=headers)
    assert answer.status_code == 200
    made = {"name": "uploads", "scopes": ["models"]}
    key = served.call("POST", "auth/api-keys", served.owner, json=made).json["data"]["key"]
    headers = {"Authorization": f"Bearer {key}"}
    answer = served.call("POST", "//invocations/iris", json={"inputs": ROWS}, headers=headers)
    assert (answer.status_code, answer.json["error_code"]) == (403, "PERMISSION_DENIED")


def test_health_needs_no_token_and_writes_no_line(world: World) -> None:
    for path in ("ping", "health"):
        answer = world.call("GET", f"//{path}")
        assert (answer.status_code, answer.data) == (200, b"")
    assert world.call("GET", "//version").mimetype == "text/plain"
    assert world.events() == []
    with world.app.app_context(), db.engine.begin() as connection:
        head = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'unknown'")
    assert world.call("GET", "//ping").status_code == 503
    with world.app.app_context(), db.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{head}'")
