"""Workers are killed under load: every answer that a client got has its line."""

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.process.server import Server, running
from webapp.logstore.reader import LogReader

KILLS = 20
CLIENTS = 4
WORKERS = 3
ANSWERS = 600
PATIENCE_SECONDS = 20
ENDS = "event_type IN ('request_completed', 'request_failed')"


def test_every_answer_has_exactly_one_last_line_after_twenty_kills(tmp_path: Path) -> None:
    answered: list[str] = []
    counted: list[float] = []
    done = threading.Event()
    with running(tmp_path, workers=WORKERS, log_segment_bytes=256 * 2**10) as server:
        clients = [
            threading.Thread(target=_ask, args=(server, f"client-{n}", answered, done))
            for n in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for number in range(KILLS):
            time.sleep(random.uniform(0.2, 1.2))
            os.kill(random.choice(sorted(server.worker_pids())), signal.SIGKILL)
            if number % 5 == 4:
                server.wait_until_ready()
                counted.append(_count_requests(server))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(answered) < ANSWERS and time.monotonic() < deadline:
            time.sleep(0.1)
        done.set()
        for client in clients:
            client.join()
        metrics_files = list((server.instance_path / "metrics").iterdir())
    lines = Counter(
        dict(
            LogReader(server.log_dir).rows(
                f"SELECT request_id, count(*) FROM events WHERE {ENDS} GROUP BY 1"
            )
        )
    )
    assert len(answered) >= ANSWERS
    assert [request_id for request_id in answered if lines[request_id] != 1] == []
    assert len(list(server.log_dir.rglob("app-*"))) > 1, "it rotated meanwhile"
    assert counted == sorted(counted), "no counter falls"
    slots = {file.stem.rpartition("_")[2] for file in metrics_files} - {"main"}
    assert slots == {str(slot) for slot in range(WORKERS)}, "a new worker goes on in old files"


def _ask(server: Server, name: str, answered: list[str], done: threading.Event) -> None:
    """Ask until told to stop; note the id of each answer that came whole."""
    number = 0
    while not done.is_set():
        number += 1
        headers = {"X-Request-ID": f"{name}-{number:06d}"}
        path = ("auth/me", "nothing/here", "models")[number % 3]
        try:
            url = f"{server.base_url}/api/v1/{path}"
            response = requests.get(url, headers=headers, timeout=10)
        except requests.RequestException:
            continue  # its worker was killed
        answered.append(response.headers["X-Request-ID"])


def _count_requests(server: Server) -> float:
    text = requests.get(f"{server.base_url}/metrics", timeout=10).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "http_server_request_duration_seconds_count"
    )
