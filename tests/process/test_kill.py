"""Workers are killed under load: every answer that a client got has its line."""

import random
import threading
import time
from collections import Counter
from pathlib import Path

import requests

from tests.process.server import Server, running
from webapp.logstore.reader import LogReader

KILLS = 20
CLIENTS = 4
ENDS = "event_type IN ('request_completed', 'request_failed')"


def test_every_answer_has_exactly_one_last_line_after_twenty_kills(tmp_path: Path) -> None:
    answered: list[str] = []
    done = threading.Event()
    with running(tmp_path, workers=3, log_segment_bytes=256 * 2**10) as server:
        clients = [
            threading.Thread(target=_ask, args=(server, f"client-{n}", answered, done))
            for n in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for _ in range(KILLS):
            time.sleep(random.uniform(0.05, 0.3))
            server.kill(random.choice(sorted(server.worker_pids())))
        time.sleep(0.5)
        done.set()
        for client in clients:
            client.join()
    lines = Counter(
        dict(
            LogReader(server.log_dir).rows(
                f"SELECT request_id, count(*) FROM events WHERE {ENDS} GROUP BY 1"
            )
        )
    )
    assert len(answered) > 1000
    assert [request_id for request_id in answered if lines[request_id] != 1] == []
    assert len(list(server.log_dir.rglob("app-*"))) > 1, "it rotated meanwhile"


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
