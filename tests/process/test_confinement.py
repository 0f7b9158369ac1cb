"""Workers of gunicorn that have given up what no request needs, and go on working."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.process.server import Server, running
from tests.process.test_launcher import SEGMENT_BYTES, fill_log, upload, wait_until_archived
from tests.processes import GONE_SECONDS, wait_until_gone
from webapp import seccomp

ROW = [[5.1, 3.5, 1.4, 0.2]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not seccomp.available():
        pytest.skip("libseccomp is not installed")
    folder = tmp_path_factory.mktemp("confined")
    with running(folder, workers=2, log_segment_bytes=SEGMENT_BYTES) as started:
        yield started


def modes(pid: int) -> set[str]:
    """The modes of seccomp that the threads of a process are in; 2 is a filter."""
    return {
        re.findall(r"^Seccomp:\t(\d)$", status.read_text(), re.MULTILINE)[0]
        for status in Path(f"/proc/{pid}/task").glob("*/status")
    }


def outside() -> set[str]:
    """The modes that any process on this machine begins in: in a container, there are rules."""
    return modes(os.getpid())


def wait_until_confined(server: Server) -> None:
    """Wait for workers that are still starting; every thread of each must be in a filter."""
    deadline = time.monotonic() + GONE_SECONDS
    while any(modes(pid) != {"2"} for pid in server.worker_pids()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_thread_of_every_worker_is_confined_and_readiness_says_so(server: Server) -> None:
    wait_until_confined(server)
    for pid in (server.launcher_pid(), *server.judge_pids()):
        assert modes(pid) == outside()
    ready = requests.get(f"{server.base_url}/readyz", timeout=5).json()
    assert (ready["sandbox"], ready["worker_sandbox"]) == ("seccomp", "seccomp")


def test_confined_workers_do_all_their_work(server: Server) -> None:
    token = server.login()
    assert upload(server, token, "iris").status_code == 201
    assert server.wait_until_compiled(token, "iris")["engine"] == "onnx"
    for query in ("", "?engine=sklearn"):
        body = {"model_id": "iris", "input_data": ROW, "probabilities": True}
        predicted = server.call("POST", f"predictions/predict{query}", token, json=body)
        assert predicted.status_code == 200
    assert server.call("GET", "models/iris/download", token).status_code == 200
    assert server.call("GET", "admin/metrics", token).status_code == 200
    assert server.call("DELETE", "models/iris", token).status_code in (200, 204)
    fill_log(server)
    wait_until_archived(server)
    (judge,) = server.judge_pids()
    os.kill(judge, signal.SIGKILL)
    wait_until_gone({judge})
    assert upload(server, token, "again").status_code == 201
    # Nothing that a library tried was refused loudly.
    told = [e for e in server.events() if "not permitted" in str(e)]
    assert told == []


def test_new_workers_are_confined_as_well(server: Server) -> None:
    server.kill(min(server.worker_pids()))
    wait_until_confined(server)
    server.reload()
    wait_until_confined(server)
    assert upload(server, server.login(), "later").status_code == 201


def test_a_confined_worker_ends_in_order_and_leaves_nobody(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        processes = {*server.worker_pids(), server.launcher_pid(), *server.judge_pids()}
        began = time.monotonic()
    assert time.monotonic() - began < 15
    wait_until_gone(processes)
    assert server.output.read_text() == ""


def test_a_worker_that_cannot_be_confined_serves_and_says_so(tmp_path: Path) -> None:
    server = Server(tmp_path, workers=1)
    # A library of that name which is none stands for one that is missing.
    (tmp_path / "libseccomp.so.2").write_text("")
    server.environ["LD_LIBRARY_PATH"] = str(tmp_path)
    assert server.run("flask", "prepare").returncode == 0
    server.start()
    try:
        ready = requests.get(f"{server.base_url}/readyz", timeout=5).json()
        assert ready["worker_sandbox"] == "none"
        assert upload(server, server.login(), "iris").status_code == 201
        (worker,) = server.worker_pids()
        assert modes(worker) == outside()
    finally:
        server.stop()
