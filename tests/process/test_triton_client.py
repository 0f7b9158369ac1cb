"""The Open Inference Protocol as NVIDIA's client speaks it, against a real gunicorn."""

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from sklearn.datasets import load_iris
from tritonclient.utils import InferenceServerException

from tests.estimators import dump, iris_pipeline, iris_vectors
from tests.process.server import Server, running

FOLLOW_SECONDS = 2
# How far from scikit-learn each engine may be.
TOLERANCES = {"sklearn": 0.0, "": 1e-6}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("triton")
    with running(folder, workers=2) as started:
        token = started.login()
        for estimator in (iris_pipeline(), iris_vectors()):
            answer = started.call(
                "POST",
                "models/upload",
                token,
                data={"name": "iris"},
                files={"file": io.BytesIO(dump(estimator))},
            )
            assert answer.status_code == 201, answer.text
        started.wait_until_compiled(token, "iris")
        time.sleep(FOLLOW_SECONDS)
        yield started


@pytest.fixture(params=["token", "key"])
def headers(server: Server, request: pytest.FixtureRequest) -> dict[str, str]:
    """Of a person, or of a machine client with a key that may predict and nothing else.

    The client writes into what it is given, hence one for each test.
    """
    credential = server.login() if request.param == "token" else server.make_key("predict")
    return {"Authorization": f"Bearer {credential}"}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.base_url.removeprefix("http://")) as made:
        yield made


def tensor(X: np.ndarray, datatype: str, **options: bool) -> triton.InferInput:
    made = triton.InferInput("input", list(X.shape), datatype)
    made.set_data_from_numpy(X, **options)
    return made


def test_the_client_finds_the_server_and_the_model(
    client: triton.InferenceServerClient, headers: dict[str, str]
) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "pellucid"
    assert client.is_model_ready("iris", headers=headers)
    assert client.is_model_ready("iris", "1", headers=headers)
    assert not client.is_model_ready("iris", "9", headers=headers)
    assert client.get_model_metadata("iris", headers=headers)["versions"] == ["2", "1"]


@pytest.mark.parametrize("engine", TOLERANCES)
@pytest.mark.parametrize("binary", [True, False])
def test_the_client_infers_with_its_defaults_and_in_json(
    client: triton.InferenceServerClient, headers: dict[str, str], binary: bool, engine: str
) -> None:
    X = load_iris().data
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary)
        for name in ("predict", "predict_proba")
    ]
    inputs = [tensor(X, "FP64", binary_data=binary)]
    query = {"engine": engine} if engine else None
    result = client.infer(
        "iris", inputs, "1", outputs, request_id="mine", headers=headers, query_params=query
    )
    assert result.get_response()["id"] == "mine"
    np.testing.assert_array_equal(result.as_numpy("predict")[:, 0], iris_pipeline().predict(X))
    np.testing.assert_allclose(
        result.as_numpy("predict_proba"),
        iris_pipeline().predict_proba(X),
        rtol=0,
        atol=TOLERANCES[engine],
    )


def test_the_client_gets_text_labels_when_it_asks_for_no_outputs(
    client: triton.InferenceServerClient, headers: dict[str, str]
) -> None:
    X = load_iris().data.astype(np.float32)
    result = client.infer("iris", [tensor(X, "FP32")], headers=headers)
    labels = [label.decode() for label in result.as_numpy("predict")[:, 0]]
    assert labels == iris_vectors().predict(X.astype(float)).tolist()


def test_the_client_shows_why_it_was_refused(
    client: triton.InferenceServerClient, headers: dict[str, str]
) -> None:
    X = np.ones((1, 3))
    with pytest.raises(InferenceServerException, match="3 values, but the model takes 4"):
        client.infer("iris", [tensor(X, "FP64")], headers=headers)
    with pytest.raises(InferenceServerException, match="bearer token"):
        client.infer("iris", [tensor(X, "FP64")])
