"""Engines and aliases change under load: every worker follows within 2 s, and nobody fails."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from sklearn.datasets import load_breast_cancer, load_iris

from tests.estimators import cancer_forest, dump, iris_pipeline, iris_vectors
from tests.process.server import Server, running

WORKERS = 3
FOLLOW_SECONDS = 2
ROWS = load_iris().data[::30].tolist()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("engines")
    with running(folder, workers=WORKERS) as started:
        yield started


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return server.login()


def upload(server: Server, token: str, name: str, estimator: Any) -> None:
    """Upload a model, which does not wait for the compiler."""
    file = {"file": io.BytesIO(dump(estimator))}
    answer = server.call("POST", "models/upload", token, data={"name": name}, files=file)
    assert answer.status_code == 201, answer.text


@contextmanager
def asking(server: Server, token: str, reference: str, rows: Any) -> Iterator[list[Any]]:
    """Predict over and over from three clients; yield what was answered, with its time."""
    answers: list[Any] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            asked = time.monotonic()
            body = {"model_id": reference, "input_data": rows}
            try:
                answer = server.call("POST", "predictions/predict", token, json=body)
            except requests.RequestException as error:
                answers.append((asked, error, None))
                continue
            answers.append((asked, answer.status_code, answer.json().get("data")))

    clients = [threading.Thread(target=ask) for _ in range(WORKERS)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        over.set()
        for client in clients:
            client.join()


def test_all_workers_switch_to_a_proven_engine_within_two_seconds(
    server: Server, token: str
) -> None:
    rows = load_breast_cancer().data[::50].tolist()
    upload(server, token, "cancer", cancer_forest())
    with asking(server, token, "cancer", rows) as answers:
        found = server.wait_until_compiled(token, "cancer")
        switched = datetime.now(UTC) + timedelta(seconds=FOLLOW_SECONDS)
        time.sleep(FOLLOW_SECONDS + 1)
    assert found["engine"] == "onnx", found
    assert {status for _, status, _ in answers} == {200}
    late = [
        event
        for event in server.events(event_type="prediction")
        if datetime.fromisoformat(event["timestamp"]) > switched
    ]
    assert {event["engine"] for event in late} == {"onnx"}
    assert {event["pid"] for event in late} == server.worker_pids()
    expected = cancer_forest().predict(load_breast_cancer(as_frame=True).data[::50]).tolist()
    assert all(data["predictions"] == expected for _, _, data in answers)


def test_an_alias_moves_in_all_workers_within_two_seconds(server: Server, token: str) -> None:
    upload(server, token, "iris", iris_pipeline())
    upload(server, token, "iris", iris_vectors())
    alias = "models/iris/aliases/production"
    server.call("PUT", alias, token, json={"version": 1}).raise_for_status()
    followed: list[tuple[int, datetime, datetime]] = []
    with asking(server, token, "iris@production", ROWS) as answers:
        time.sleep(1)
        for version in (2, 1, 2):
            server.call("PUT", alias, token, json={"version": version}).raise_for_status()
            time.sleep(FOLLOW_SECONDS)
            since = datetime.now(UTC)
            time.sleep(1)
            followed.append((version, since, datetime.now(UTC)))
    assert {status for _, status, _ in answers} == {200}
    lines = server.events(event_type="prediction", model_name="iris")
    for version, since, until in followed:
        late = [
            event for event in lines if since < datetime.fromisoformat(event["timestamp"]) < until
        ]
        assert {event["model_version"] for event in late} == {version}
        assert {event["pid"] for event in late} == server.worker_pids()


def test_a_broken_new_version_does_not_replace_a_good_one(server: Server, token: str) -> None:
    upload(server, token, "kept", iris_pipeline())
    file = {"file": io.BytesIO(dump(iris_pipeline())[:-100])}
    refused = server.call("POST", "models/upload", token, data={"name": "kept"}, files=file)
    assert refused.status_code == 422
    body = {"model_id": "kept", "input_data": ROWS}
    answer = server.call("POST", "predictions/predict", token, json=body)
    assert answer.json()["data"]["model_version"] == 1
