"""Workers that die or stall while a model has them: after the second time nobody gets it.

No file that is accepted is known to crash. So a model that takes long is asked, and its worker is
killed meanwhile, as a crash in native code would; or it takes longer than is allowed.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from sklearn.neighbors import KNeighborsClassifier

from tests.estimators import dump
from tests.process.server import Event, Server, running

POINTS, WIDTH = 20_000, 20
ALLOWED_SECONDS = 4
GRACE_SECONDS = 1
PATIENCE_SECONDS = 20
KNOWN_EVERYWHERE_SECONDS = 2
PREDICT = "/api/v1/predictions/predict"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("quarantine")
    with running(folder, workers=2, model_seconds=ALLOWED_SECONDS) as started:
        yield started


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return server.login()


def slow_model(seed: int) -> bytes:
    """A model that needs some milliseconds a row: each is far from every point."""
    X = np.random.default_rng(seed).random((POINTS, WIDTH))
    return dump(KNeighborsClassifier(algorithm="kd_tree", p=3).fit(X, np.arange(POINTS) % 2))


def upload(server: Server, token: str, name: str, data: bytes) -> requests.Response:
    options = {"files": {"file": ("model.joblib", data)}, "data": {"name": name}}
    return server.call("POST", "models/upload", token, **options)


def predict(server: Server, token: str, name: str, rows: int = 1) -> requests.Response:
    X = np.random.default_rng(1).random((rows, WIDTH)).tolist()
    body = {"model_id": name, "input_data": X}
    return server.call("POST", PREDICT.removeprefix("/api/v1/"), token, json=body)


def begin(server: Server, token: str, name: str, rows: int) -> tuple[threading.Thread, list[Any]]:
    """Ask for a long prediction; return who waits for it and what will have come of it."""
    came: list[Any] = []

    def ask() -> None:
        try:
            came.append(predict(server, token, name, rows).status_code)
        except requests.ConnectionError:
            came.append("dropped")

    started = len(server.events(event_type="request_started", path=PREDICT))
    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(server, started + 1, event_type="request_started", path=PREDICT)
    return asking, came


def wait_for(server: Server, count: int, **fields: Any) -> list[Event]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found := server.events(**fields)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(found) == count
    return found


def quarantine(server: Server, token: str, name: str, lose: Callable[[], None]) -> Event:
    """Let the model cost two workers; check what follows; return the line of the quarantine."""
    for strikes in (1, 2):
        assert predict(server, token, name).status_code == 200
        asking, came = begin(server, token, name, rows=1500)
        lose()
        asking.join()
        assert came == ["dropped"]
        struck = wait_for(server, strikes, event_type="model_struck", model_name=name)
        assert struck[-1]["strikes"] == strikes
    (line,) = wait_for(server, 1, event_type="model_quarantined", model_name=name)
    time.sleep(KNOWN_EVERYWHERE_SECONDS)
    codes = {predict(server, token, name).status_code for _ in range(4 * server.workers)}
    assert codes == {409}
    return line


def test_a_model_that_kills_two_workers_is_quarantined(server: Server, token: str) -> None:
    data = slow_model(seed=2)
    assert upload(server, token, "killer", data).status_code == 201

    def kill() -> None:
        begun = server.events(event_type="request_started", path=PREDICT)[-1]
        time.sleep(0.7)  # after the rows are read, long before they are predicted
        os.kill(begun["pid"], signal.SIGKILL)

    line = quarantine(server, token, "killer", kill)

    assert (line["level"], line["reason"]) == ("ERROR", "a worker crashed")
    again = upload(server, token, "again", data)
    assert (again.status_code, again.json()["details"]["reason"]) == (422, "quarantined")


def test_a_model_that_stalls_two_workers_is_quarantined_until_it_is_released(
    server: Server, token: str
) -> None:
    model = upload(server, token, "staller", slow_model(seed=3)).json()["data"]

    line = quarantine(server, token, "staller", lambda: None)

    assert (line["level"], line["reason"]) == ("ERROR", "a worker stalled")
    released = server.run("flask", "models", "release", f"{model['id']}@1")
    assert released.returncode == 0, released.stderr
    time.sleep(KNOWN_EVERYWHERE_SECONDS)
    assert predict(server, token, "staller").status_code == 200


def test_a_worker_that_is_reloaded_at_work_or_killed_idle_strikes_nobody(
    server: Server, token: str
) -> None:
    assert upload(server, token, "honest", slow_model(seed=4)).status_code == 201
    asking, came = begin(server, token, "honest", rows=20)
    server.reload()
    asking.join()
    assert came == [200]
    server.kill(min(server.worker_pids()))
    assert server.events(event_type="model_struck", model_name="honest") == []


def test_a_worker_that_ends_in_order_strikes_nobody_also_if_it_is_killed_at_last(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path, workers=1, model_seconds=20)
    server.environ["GUNICORN_CMD_ARGS"] = f"--graceful-timeout {GRACE_SECONDS}"
    assert server.run("flask", "prepare").returncode == 0
    server.start()
    try:
        token = server.login()
        assert upload(server, token, "honest", slow_model(seed=5)).status_code == 201
        asking, came = begin(server, token, "honest", rows=4000)
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGTERM)
        wait_for(server, 1, message=f"Worker exiting (pid: {worker})")
        server.kill(worker)
        asking.join()
        assert came == ["dropped"]
        assert server.events(event_type="model_struck") == []
    finally:
        server.stop()
