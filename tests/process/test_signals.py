"""A service that is told to stop, to reload, or that is killed, while it has work."""

import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import requests

from tests.process.server import Server, running

CLIENTS = 4
ANSWERS = 2000
GONE_SECONDS = 10


def test_a_reload_fails_no_request(tmp_path: Path) -> None:
    came: list[object] = []
    with running(tmp_path, workers=2) as server:
        token = server.login()

        def ask() -> None:
            while len(came) < ANSWERS:
                try:
                    came.append(server.call("GET", "auth/me", token).status_code)
                except requests.RequestException as error:
                    came.append(error)

        clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for part in (1, 2):
            while len(came) < ANSWERS * part / 4:
                time.sleep(0.01)
            server.reload()
        for client in clients:
            client.join()
    assert Counter(map(str, came)) == {"200": len(came)}


def test_a_request_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        host, port = server.base_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=GONE_SECONDS) as connection:
            connection.sendall(
                b"POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nX-Request-ID: under-way\r\n"
                b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{"
            )
            while not server.events(request_id="under-way"):
                time.sleep(0.01)
            server.end(signal.SIGTERM)
            time.sleep(1)
            connection.sendall(b"}")
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 400"), answer
        assert server.wait_for_end() == 0
    lines = server.events(request_id="under-way")
    assert [line["event_type"] for line in lines] == ["request_started", "request_completed"]


def test_workers_do_not_outlive_their_master_and_the_service_starts_again(tmp_path: Path) -> None:
    server = Server(tmp_path, workers=2)
    assert server.run("flask", "prepare").returncode == 0
    server.start()
    try:
        workers = server.worker_pids() | server.judge_pids()
        server.end(signal.SIGKILL)
        assert server.wait_for_end() == -signal.SIGKILL
        deadline = time.monotonic() + GONE_SECONDS
        while left := [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < deadline, left
            time.sleep(0.05)
        server.start()
        assert server.login()
    finally:
        server.stop()
