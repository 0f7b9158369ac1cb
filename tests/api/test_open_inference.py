"""What a client gets who speaks the Open Inference Protocol V2."""

import struct
from typing import Any

import numpy as np
import orjson
import pytest
from sklearn.datasets import load_iris, load_wine

from tests.estimators import iris_pipeline, iris_vectors, rows, wine_columns, wine_frame
from tests.world import World
from webapp.db.tables import ModelVersion
from webapp.extensions import db

ROW = [5.1, 3.5, 1.4, 0.2]
INPUT = {"name": "input", "datatype": "FP64", "shape": [1, 4], "data": ROW}
LENGTH = "Inference-Header-Content-Length"


def infer(world: World, model: str = "iris", **body: Any) -> Any:
    path = f"//v2/models/{model}/infer"
    return world.call("POST", path, world.owner, json={"inputs": [INPUT], **body})


def infer_raw(world: World, head: Any, *tails: bytes, **headers: str) -> Any:
    """Send a request whose tensors are raw, with no media type, as tritonclient does."""
    content = orjson.dumps(head)
    headers = {LENGTH: str(len(content)), **headers}
    data = b"".join([content, *tails])
    return world.call("POST", "//v2/models/iris/infer", world.owner, data=data, headers=headers)


def raw_input(X: np.ndarray, datatype: str = "FP64", **changes: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": X.nbytes}
    about = {"name": "x", "datatype": datatype, "shape": list(X.shape), "parameters": parameters}
    return about | changes


def test_outputs_are_those_of_scikit_learn_and_the_id_comes_back(served: World) -> None:
    X, _ = load_iris(return_X_y=True)
    tensor = {"name": "any", "datatype": "FP64", "shape": list(X.shape), "data": X.tolist()}
    wanted = [{"name": "predict"}, {"name": "predict_proba"}]
    response = infer(served, inputs=[tensor], outputs=wanted, id="mine")
    assert response.status_code == 200
    answer = response.json
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("iris", "1", "mine")
    labels, shares = answer["outputs"]
    assert (labels["name"], labels["datatype"], labels["shape"]) == ("predict", "INT64", [150, 1])
    assert labels["data"] == iris_pipeline().predict(X).tolist()
    assert (shares["datatype"], shares["shape"]) == ("FP64", [150, 3])
    np.testing.assert_array_equal(shares["data"], np.ravel(iris_pipeline().predict_proba(X)))


def test_the_id_is_logged_beside_our_own(served: World) -> None:
    refused = infer(served, id="x" * 500, inputs=[{**INPUT, "shape": [1, 3]}])
    for response, logged in ((infer(served, id="mine"), "mine"), (refused, "x" * 128)):
        completed = served.last_event(response)
        assert completed["client_request_id"] == logged
        assert completed["request_id"] == response.headers["X-Request-ID"]
    assert infer(served, id="x" * 500).json["id"] == "x" * 500
    assert "client_request_id" not in served.last_event(infer(served))


def test_inference_is_three_lines_like_any_prediction(served: World) -> None:
    infer(served)
    started, prediction, completed = served.events(infer(served))
    assert started["event_type"] == "request_started"
    assert (prediction["event_type"], prediction["rows"]) == ("prediction", 1)
    assert completed["route"] == "/v2/models/<model>/infer"
    assert (completed["model_version"], completed["db_queries"]) == (1, 0)


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", "<i8", "<u1"])
def test_raw_tensors_go_in_and_come_out(served: World, dtype: str) -> None:
    X = load_iris().data.astype(dtype)
    kind = {"f": "FP", "i": "INT", "u": "UINT"}[X.dtype.kind]
    head = {
        "inputs": [raw_input(X, f"{kind}{8 * X.itemsize}")],
        "parameters": {"binary_data_output": True},
        "outputs": [
            {"name": "predict_proba"},
            {"name": "predict", "parameters": {"binary_data": False}},
        ],
    }
    response = infer_raw(served, head, X.tobytes())
    length = int(response.headers[LENGTH])
    assert response.mimetype == "application/octet-stream"
    shares, labels = orjson.loads(response.data[:length])["outputs"]
    tail = response.data[length:]
    assert shares["parameters"] == {"binary_data_size": len(tail)}
    expected = iris_pipeline().predict_proba(X.astype(float))
    np.testing.assert_array_equal(np.frombuffer(tail, "<f8").reshape(150, 3), expected)
    assert labels["data"] == iris_pipeline().predict(X.astype(float)).tolist()


def test_labels_that_are_text_are_bytes(world: World) -> None:
    world.upload("iris", iris_vectors())
    X = np.array([ROW])
    head = {"inputs": [raw_input(X)], "parameters": {"binary_data_output": True}}
    response = infer_raw(world, head, X.tobytes())
    length = int(response.headers[LENGTH])
    (output,) = orjson.loads(response.data[:length])["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 1])
    assert response.data[length:] == struct.pack("<I", 6) + b"setosa"


def test_columns_of_several_kinds_are_one_tensor_each(world: World) -> None:
    world.upload("wine", wine_columns())
    metadata = world.call("GET", "//v2/models/wine", world.owner).json
    kinds = {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]}
    assert kinds == {"alcohol": "FP64", "malic_acid": "FP64", "colour": "BYTES"}
    assert [output["shape"] for output in metadata["outputs"]] == [[-1, 1], [-1, 3]]
    columns = list(zip(*rows(wine_frame(), len(load_wine().data)), strict=True))
    inputs = [
        {
            "name": name,
            "datatype": datatype,
            "shape": [len(column), 1],
            "data": [None if value != value else value for value in column],
        }
        for (name, datatype), column in zip(kinds.items(), columns, strict=True)
    ]
    answer = infer(world, "wine", inputs=inputs[::-1]).json
    assert answer["outputs"][0]["data"] == wine_columns().predict(wine_frame()).tolist()
    refused = infer(world, "wine", inputs=inputs[:2])
    assert refused.status_code == 400
    assert list(refused.json) == ["error"]


def test_metadata_say_what_a_model_takes_and_answers(served: World) -> None:
    answer = served.call("GET", "//v2/models/iris", served.owner).json
    assert answer == {
        "name": "iris",
        "versions": ["1"],
        "platform": "sklearn_joblib",
        "inputs": [{"name": "input", "datatype": "FP64", "shape": [-1, 4]}],
        "outputs": [
            {"name": "predict", "datatype": "INT64", "shape": [-1, 1]},
            {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
        ],
    }
    outputs = served.call("GET", "//v2/models/diabetes", served.owner).json["outputs"]
    assert outputs == [{"name": "predict", "datatype": "FP64", "shape": [-1, 1]}]
    assert served.call("GET", "//v2").json["extensions"] == ["binary_tensor_data"]


def test_health_needs_no_token_and_writes_no_line(world: World) -> None:
    assert world.call("GET", "//v2/health/live").json == {"live": True}
    assert world.call("GET", "//v2/health/ready").json == {"ready": True, "live": True}
    assert world.events() == []


def test_versions_stand_in_the_path(world: World) -> None:
    for estimator in (iris_pipeline(), iris_vectors()):
        world.upload("iris", estimator)
    world.call("PUT", "models/iris/aliases/production", world.owner, json={"version": 1})
    for version, number in (("1", "1"), ("2", "2"), ("production", "1"), ("latest", "2")):
        path = f"//v2/models/iris/versions/{version}"
        answer = world.call("POST", f"{path}/infer", world.owner, json={"inputs": [INPUT]}).json
        assert answer["model_version"] == number
        assert world.call("GET", f"{path}/ready", world.owner).json["ready"] is True
    with world.app.app_context():
        db.session.query(ModelVersion).filter_by(version=2).update({"state": "quarantined"})
        db.session.commit()
    world.parts.registry.forget()
    ready = world.call("GET", "//v2/models/iris/ready", world.owner)
    assert (ready.status_code, list(ready.json)) == (503, ["error"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": [{**INPUT, "shape": [1, 3]}]}, "4 elements"),
        ({"inputs": [{**INPUT, "shape": [2, 2]}]}, "2 values"),
        ({"inputs": [{**INPUT, "shape": [4]}]}, "1 value"),
        ({"inputs": [{**INPUT, "shape": [1, 2, 2]}]}, "shape"),
        ({"inputs": [{**INPUT, "shape": [10**12, 0], "data": []}]}, "shape"),
        ({"inputs": [{**INPUT, "shape": [-1, 4]}]}, "shape"),
        ({"inputs": [{**INPUT, "datatype": "FP128"}]}, "datatype"),
        ({"inputs": [{**INPUT, "data": [1, 2, "3", 4]}]}, "FP64"),
        ({"inputs": [{**INPUT, "data": [1, 2, None, 4]}]}, "column 2"),
        ({"inputs": [{**INPUT, "data": [[1, 2], 3, 4]}]}, "nested"),
        ({"inputs": [{**INPUT, "datatype": "BOOL", "data": [True] * 4}]}, "number"),
        ({"inputs": [{**INPUT, "parameters": {"binary_data_size": 8}}]}, "binary_data_size"),
        ({"inputs": [INPUT, {**INPUT, "name": "b"}]}, "inputs"),
        ({"outputs": [{"name": "transform"}]}, "outputs"),
        ({"outputs": [{"name": "predict"}, {"name": "predict"}]}, "outputs"),
    ],
)
def test_what_does_not_match_is_refused_in_the_protocols_form(
    served: World, changes: Any, says: str
) -> None:
    response = infer(served, **changes)
    assert response.status_code == 400
    assert list(response.json) == ["error"]
    assert says in response.json["error"]
    assert served.last_event(response)["error"] == "InvalidInputError"


def test_raw_tensors_that_do_not_match_are_refused(served: World) -> None:
    X = np.array([ROW])
    holed = np.array([[1.0, 2.0, np.nan, 4.0]])
    one = {"inputs": [raw_input(X)]}
    texts = {"inputs": [raw_input(X, "BYTES")]}
    refusals = [
        infer_raw(served, one, X.tobytes()[:-1]),
        infer_raw(served, one, X.tobytes(), b"more"),
        infer_raw(served, one, holed.tobytes()),
        infer_raw(served, one, X.tobytes(), **{LENGTH: "9999999"}),
        infer_raw(served, one, X.tobytes(), **{LENGTH: "-1"}),
        infer_raw(served, texts, struct.pack("<I", 99).ljust(32)),
        infer_raw(served, texts, struct.pack("<I", 28) + b"\xff" * 28),
    ]
    for number, response in enumerate(refusals):
        assert response.status_code == 400, number
        assert list(response.json) == ["error"]
    squeezed = infer_raw(served, one, X.tobytes(), **{"Content-Encoding": "gzip"})
    assert squeezed.status_code == 415


def test_who_may_not_see_a_model_is_told_so_in_the_protocols_form(served: World) -> None:
    paths = ("", "/ready", "/versions/1")
    for path in paths:
        unknown = served.call("GET", f"//v2/models/iris{path}", served.stranger)
        assert (unknown.status_code, list(unknown.json)) == (404, ["error"])
    anonymous = served.call("POST", "//v2/models/iris/infer", json={"inputs": [INPUT]})
    assert (anonymous.status_code, list(anonymous.json)) == (401, ["error"])
