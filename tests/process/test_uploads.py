"""Uploads under gunicorn: who judges them, and what an operator trusts."""

import io
import os
import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import requests
from sklearn.linear_model import Ridge

from tests.estimators import dump, dumped, iris_pipeline
from tests.process.server import Event, Server, running
from tests.processes import wait_until_gone

TRUSTED = "fractions.Fraction"
WAITING = "Models wait to be checked again: run `flask models revalidate`"
GONE_SECONDS = LINE_SECONDS = 10
HOUR = 3600
UPLOADS = 12


def wait_for(server: Server, count: int, message: str) -> list[Event]:
    """Wait until a server has written so many lines with a message."""
    deadline = time.monotonic() + LINE_SECONDS
    while len(lines := server.events(message=message)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return lines


def test_all_workers_share_one_judge_and_the_log_says_what_is_allowed(tmp_path: Path) -> None:
    with running(
        tmp_path, workers=2, trusted_globals=TRUSTED, sklearn_versions="1.2, 1.7"
    ) as server:
        token, file = server.login(), dumped(iris_pipeline)

        def upload(number: int) -> int:
            data = {"name": f"iris-{number}"}
            sent = server.call("POST", "models/upload", token, files={"file": file}, data=data)
            return sent.status_code

        # Which worker takes a connection is up to the kernel.
        for number in range(0, 100, 2):
            with ThreadPoolExecutor() as pool:
                assert [*pool.map(upload, (number, number + 1))] == [201, 201]
            uploads = server.events(event_type="request_completed", route="/api/v1/models/upload")
            if len({line["pid"] for line in uploads}) == 2:
                break
        else:
            pytest.fail("one worker took all uploads")
        (judge,) = server.judge_pids()
        (line,) = server.events(message="Names trusted by the operator")
        assert (line["level"], line["details"]) == ("WARNING", {"names": [TRUSTED]})
        (line,) = server.events(message="Versions of scikit-learn allowed by the operator")
        assert (line["level"], line["details"]) == ("WARNING", {"versions": ["1.2", "1.7"]})
        ready = requests.get(f"{server.base_url}/readyz", timeout=5).json()
        assert ready["sandbox"] in {"seccomp", "rlimits"}
    wait_until_gone({judge})  # it ends with the server


def test_a_server_sweeps_up_what_uploads_before_it_left(tmp_path: Path) -> None:
    server = Server(tmp_path, workers=1)
    assert server.run("flask", "prepare").returncode == 0
    incoming = server.instance_path / "models" / "incoming"
    incoming.mkdir(parents=True)
    torn, under_way = incoming / "00", incoming / "11"
    for path, age in ((torn, 2 * HOUR), (under_way, HOUR / 2)):
        path.write_bytes(b"half a model")
        os.utime(path, (time.time() - age,) * 2)
    server.start()
    try:
        (swept,) = wait_for(server, 1, "Swept the model store")
        assert swept["details"] == {"uploads": 1}
        assert not torn.exists()
        assert under_way.exists()
    finally:
        server.stop()


def test_a_start_and_a_reload_say_once_that_models_wait(tmp_path: Path) -> None:
    with running(tmp_path, workers=2, engine="sklearn") as server:
        uploaded = server.call(
            "POST",
            "models/upload",
            server.login(),
            files={"file": io.BytesIO(dumped(iris_pipeline))},
            data={"name": "iris"},
        )
        assert uploaded.status_code == 201
        server.stop()
        assert not server.events(message=WAITING)
        with closing(sqlite3.connect(server.instance_path / "pellucid.db")) as database, database:
            database.execute("UPDATE model_versions SET judged_under = 'an older policy'")
        server.start()
        (line,) = wait_for(server, 1, WAITING)
        assert (line["level"], line["details"]) == ("WARNING", {"versions": 1})
        server.kill(*server.worker_pids())
        server.reload()
        wait_for(server, 2, WAITING)
    assert len(server.events(message=WAITING)) == 2, "a worker in another's place says nothing"


def test_workers_killed_in_uploads_leave_no_half_models(tmp_path: Path) -> None:
    answered: dict[str, int] = {}
    with running(tmp_path, workers=1, engine="sklearn") as server:
        token = server.login()

        def upload(name: str) -> None:
            fitted = Ridge().fit([[0.0], [1.0]], [0.0, float(name.removeprefix("m-")) + 1])
            try:
                answer = server.call(
                    "POST",
                    "models/upload",
                    token,
                    files={"file": io.BytesIO(dump(fitted))},
                    data={"name": name},
                )
            except requests.RequestException:
                return  # its worker was killed
            answered[name] = answer.status_code

        upload("m-0")  # the first waits for the judge
        names = [f"m-{number}" for number in range(1, UPLOADS)]
        for name in names:
            client = threading.Thread(target=upload, args=[name])
            client.start()
            time.sleep(random.uniform(0, 0.06))
            server.kill(*server.worker_pids())
            client.join()
        assert set(answered.values()) == {201}
        listed = server.call("GET", "models?per_page=200", token).json()["data"]["items"]
        assert {model["name"] for model in listed} >= answered.keys(), "what was answered is there"
        for model in listed:
            row = {"model_id": model["id"], "input_data": [[0.5]]}
            assert server.call("POST", "predictions/predict", token, json=row).status_code == 200
        for name in names:
            upload(name)
            assert answered[name] == 201, "its name is free, or has a next version"
