"""What is being compiled, or waits for it, when its process ends is taken up by another, once."""

import io
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier

from tests.estimators import dump, iris_pipeline
from tests.process.server import Event, Server, running

PATIENCE_SECONDS = 60
MOST_ATTEMPTS = 3
X, Y = load_breast_cancer(return_X_y=True)
SAMPLE = "\n".join(",".join(map(str, row)) for row in X.tolist())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("compilations"), workers=3) as started:
        yield started


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return server.login()


def slow_model(seed: int) -> Any:
    """A model whose compiling takes a second or two."""
    return RandomForestClassifier(100, random_state=seed).fit(X, Y)


def upload(server: Server, token: str, name: str, estimator: Any, sample: str = "") -> str:
    """Upload a model; return the digest of its file."""
    files = {"file": io.BytesIO(dump(estimator))}
    if sample:
        files["sample"] = io.BytesIO(sample.encode())
    answer = server.call("POST", "models/upload", token, data={"name": name}, files=files)
    assert answer.status_code == 201, answer.text
    digest: str = answer.json()["data"]["passport"]["sha256"]
    return digest


def wait_for_attempt(server: Server, number: int) -> None:
    """Wait until the only model that is due is being compiled for this time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while attempts(server) != [number]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def attempts(server: Server) -> list[int]:
    """Read how often each model that is due was begun."""
    with closing(sqlite3.connect(server.instance_path / "pellucid.db")) as database:
        return [row[0] for row in database.execute("SELECT attempts FROM due_compilations")]


def results(server: Server, digest: str) -> list[Event]:
    """Read the lines about what came of compiling a file."""
    messages = {"Model compiled", "Model stays on scikit-learn"}
    return [
        event
        for event in server.events(logger="webapp.services.compilations")
        if event["message"] in messages and event["details"]["sha256"] == digest
    ]


def test_a_model_whose_workers_are_killed_is_compiled_by_the_next(
    server: Server, token: str
) -> None:
    upload(server, token, "whole", slow_model(1))
    rows = server.wait_until_compiled(token, "whole")["verified_rows"]
    digest = upload(server, token, "killed", slow_model(1), SAMPLE)
    wait_for_attempt(server, 1)
    server.kill(*server.worker_pids())
    found = server.wait_until_compiled(token, "killed")
    assert found["engine"] == "onnx"
    assert found["verified_rows"] == rows + len(X)  # the sample is not lost
    assert len(results(server, digest)) == 2  # of both uploads
    assert {event["pid"] for event in results(server, digest)[1:]} <= server.worker_pids()


def test_what_waits_when_the_service_stops_is_compiled_once_after_its_start(
    server: Server, token: str
) -> None:
    digests = [upload(server, token, f"waiting-{i}", slow_model(10 + i)) for i in range(3)]
    server.stop()
    assert attempts(server)
    server.start()
    for number in range(3):
        assert server.wait_until_compiled(token, f"waiting-{number}")["engine"] == "onnx"
    assert [len(results(server, digest)) for digest in digests] == [1, 1, 1]


def test_a_model_that_is_never_compiled_to_the_end_is_given_up(server: Server, token: str) -> None:
    upload(server, token, "endless", slow_model(20))
    for attempt in range(1, MOST_ATTEMPTS + 1):
        wait_for_attempt(server, attempt)
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
    server.wait_until_ready()
    found = server.wait_until_compiled(token, "endless")
    assert found["engine"] == "sklearn"
    assert found["reason"] == "compiling it was begun 3 times and never ended"
    # The others are not held up by it, and an operator can have it tried again.
    upload(server, token, "next", iris_pipeline())
    assert server.wait_until_compiled(token, "next")["engine"] == "onnx"
    model = server.call("GET", "models/endless", token).json()["data"]
    assert server.run("flask", "models", "verify", model["id"]).returncode == 0
