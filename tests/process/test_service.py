"""The whole service under gunicorn with four workers, seen from outside."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from json import JSONDecoder
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.demo import PASSWORD as DEMO_PASSWORD
from tests.process.server import ADMIN_PASSWORD, Event, Server, running
from webapp.logstore.caching import CACHE_SECONDS

ENDS = {"request_completed", "request_failed"}
PATIENT = "user@example.com"
Demo = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("service")) as started:
        yield started


@pytest.fixture(scope="module")
def demo(server: Server) -> Demo:
    """What the demo said; then somebody sends a login so slowly that it takes over a second."""
    said = server.run("python", "-m", "tests.demo", timeout=120)
    body = orjson.dumps({"email": PATIENT, "password": "none"})
    host, port = server.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /api/v1/auth/login HTTP/1.1\r\nHost: slow\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        time.sleep(1.1)
        connection.sendall(body)
        assert connection.recv(1024).startswith(b"HTTP/1.1 401")
    return said


@pytest.fixture(scope="module")
def shell(server: Server, demo: Demo) -> Callable[[str], str]:
    """Run a line as the documentation has it, where `logs/app.log` is the log of the demo."""

    def run(line: str) -> str:
        folder = server.log_dir.parent
        ran = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True)
        assert ran.stderr == ""
        return ran.stdout

    return run


@pytest.fixture
def jq(shell: Callable[[str], str]) -> Callable[[str], list[Any]]:
    """Run a line with jq in it and parse the JSON texts that it prints."""
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")

    def run(line: str) -> list[Any]:
        return list(_json_texts(shell(line)))

    return run


def _json_texts(text: str) -> Iterator[Any]:
    position = 0
    while text[position:].strip():
        value, position = JSONDecoder().raw_decode(text, position)
        position += 1
        yield value


def run_of(demo: Demo) -> str:
    found = re.search(r"demo-[0-9a-f]{6}", demo.stdout)
    assert found is not None
    return found[0]


def test_the_demo_gets_scikit_learns_own_predictions(demo: Demo):
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stderr == ""
    assert "✓ every prediction equals scikit-learn's own" in demo.stdout
    assert "differ" not in demo.stdout


def test_the_demo_says_in_one_line_that_no_server_is_there(server: Server):
    said = server.run("python", "-m", "tests.demo", "http://127.0.0.1:1")

    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == "no server answers at http://127.0.0.1:1; start one with `make run`\n"


def test_every_request_of_the_demo_has_one_first_and_one_last_line(server: Server, demo: Demo):
    said = re.search(r"each of the (\d+) requests", demo.stdout)
    assert said is not None
    ids = {f"{run_of(demo)}-{number:02}" for number in range(1, int(said[1]) + 1)}
    own = [event for event in server.events() if event.get("request_id") in ids]

    started = Counter(e["request_id"] for e in own if e["event_type"] == "request_started")
    ended = Counter(e["request_id"] for e in own if e["event_type"] in ENDS)
    assert len(ids) > 20
    assert started == ended == dict.fromkeys(ids, 1)


def test_no_password_and_no_token_reaches_the_log(server: Server, demo: Demo):
    log = "\n".join(server.lines())

    for secret in (DEMO_PASSWORD, "guessed", ADMIN_PASSWORD, "eyJ"):
        assert secret not in log


def is_error(event: Event) -> bool:
    return event["level"] == "ERROR"


GREPS: dict[str, Callable[[Event], bool]] = {
    """grep '"level":"ERROR"' logs/app.log""": is_error,
    """grep -E '"level":"(ERROR|WARNING)"' logs/app.log""": lambda e: (
        e["level"] in ("ERROR", "WARNING")
    ),
    """grep '"action":"login"' logs/app.log | grep '"email":"user@example.com"'""": lambda e: (
        (e.get("action"), e.get("email")) == ("login", PATIENT)
    ),
}
SELECTIONS: dict[str, Callable[[Event], bool]] = {
    """jq 'select(.level == "ERROR")' logs/app.log""": is_error,
    """jq 'select(.duration > 1.0)' logs/app.log""": lambda e: e.get("duration", 0) > 1.0,
    """jq 'select(.message | contains("Prediction"))' logs/app.log""": lambda e: (
        "Prediction" in e["message"]
    ),
}


def with_field(server: Server, field: str, value: str) -> list[str]:
    return [line for line in server.lines() if orjson.loads(line).get(field) == value]


@pytest.mark.parametrize("line", GREPS)
def test_grep_finds_the_lines(server: Server, shell: Callable[[str], str], line: str):
    expected = [text for text in server.lines() if GREPS[line](orjson.loads(text))]

    assert expected
    assert shell(line).splitlines() == expected


@pytest.mark.parametrize("field", ["request_id", "user_id"])
def test_grep_finds_the_lines_of_one_request_and_of_one_user(
    server: Server, shell: Callable[[str], str], field: str
):
    value = server.events(event_type="prediction")[0][field]
    found = shell(f"""grep '"{field}":"{value}"' logs/app.log""").splitlines()

    assert len(found) >= 3
    assert found == with_field(server, field, value)


def test_grep_finds_the_lines_of_one_hour(server: Server, shell: Callable[[str], str]):
    hour = server.events()[-1]["timestamp"][:14]
    expected = [e for e in server.events() if e["timestamp"].startswith(hour)]

    found = shell(f"""grep '"timestamp":"{hour}' logs/app.log""").splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:", hour)
    assert [orjson.loads(line) for line in found] == expected


@pytest.mark.parametrize("line", SELECTIONS)
def test_jq_selects_events(server: Server, jq: Callable[[str], list[Any]], line: str):
    expected = [event for event in server.events() if SELECTIONS[line](event)]

    assert expected
    assert jq(line) == expected


def test_jq_counts_by_level(
    server: Server, jq: Callable[[str], list[Any]], shell: Callable[[str], str]
):
    counted = [
        line.split() for line in shell("jq -r .level logs/app.log | sort | uniq -c").splitlines()
    ]

    assert {level: int(count) for count, level in counted} == Counter(
        event["level"] for event in server.events()
    )


def test_jq_takes_fields_out(server: Server, jq: Callable[[str], list[Any]]):
    assert jq("jq '{timestamp, message}' logs/app.log") == [
        {name: event[name] for name in ("timestamp", "message")} for event in server.events()
    ]


def test_jq_sorts_the_slowest(server: Server, jq: Callable[[str], list[Any]]):
    timed = [event for event in server.events() if event.get("duration") is not None]
    slowest = max(timed, key=lambda event: event["duration"])

    (top,) = jq(
        "jq 'select(.duration != null) | {path, duration}' logs/app.log"
        " | jq -s 'sort_by(.duration) | reverse | .[0:10]'"
    )
    assert top[0] == {name: slowest.get(name) for name in ("path", "duration")}
    assert [each["duration"] for each in top] == sorted(e["duration"] for e in timed)[:-11:-1]


def test_flask_logs_answers_while_the_database_file_is_away(server: Server, demo: Demo):
    database = server.instance_path / "pellucid.db"
    failed = server.events(event_type="request_failed")
    away = database.rename(database.with_suffix(".away"))
    try:
        levels = ask(server, "levels")
        found = ask(server, "search", "event_type=request_failed")
        story = ask(server, "request", failed[0]["request_id"])
    finally:
        away.rename(database)

    assert {row["level"]: row["count"] for row in levels} == Counter(
        event["level"] for event in server.events()
    )
    assert failed
    assert found == failed
    assert story == sorted(
        server.events(request_id=failed[0]["request_id"]), key=lambda event: event["timestamp"]
    )


def ask(server: Server, *question: str) -> list[Any]:
    """Ask `flask logs` in a pipe: one JSON object per line."""
    answered = server.run("flask", "logs", *question)
    assert answered.returncode == 0, answered.stderr
    return [orjson.loads(line) for line in answered.stdout.splitlines()]


def test_all_workers_agree_on_the_metrics(server: Server, demo: Demo):
    token = server.login()
    # The questions are requests too, so they ask about the time before them.
    until = datetime.now(UTC).isoformat()
    answers = ask_all_workers(server, "admin/metrics", token, {"until": until})

    (metrics,) = set(answers.values())  # the same bytes from all
    assert set(answers) == server.worker_pids()
    data = orjson.loads(metrics)["data"]
    ended = [e for e in server.events() if e["event_type"] in ENDS and e["timestamp"] < until]
    durations: dict[str, list[float]] = {}
    for event in ended:
        durations.setdefault(f"{event['method']} {event['route']}", []).append(event["duration"])
    assert data["total_requests"] == len(ended)
    assert data["total_users"] == len({e["user_id"] for e in ended if "user_id" in e})
    assert {name: row["count"] for name, row in data["performance"].items()} == {
        name: len(values) for name, values in durations.items()
    }
    assert {name: row["p95"] for name, row in data["performance"].items()} == pytest.approx(
        {name: np.quantile(values, 0.95) for name, values in durations.items()}
    )


def ask_all_workers(
    server: Server, path: str, token: str, params: dict[str, str]
) -> dict[int, bytes]:
    """Ask until every worker has answered; the log says which one it was."""
    answers: dict[int, bytes] = {}
    with ThreadPoolExecutor(8) as pool:
        for _ in range(30):
            asked = [pool.submit(server.call, "GET", path, token, params=params) for _ in range(8)]
            for response in (future.result() for future in asked):
                assert response.status_code == 200, response.text
                (end,) = (
                    event
                    for event in server.events(request_id=response.headers["X-Request-ID"])
                    if event["event_type"] in ENDS
                )
                before = answers.setdefault(end["pid"], response.content)
                assert response.content == before
            if set(answers) >= server.worker_pids():
                break
    return answers


def test_each_request_counts_two_seconds_later(server: Server, demo: Demo):
    token = server.login()
    totals = []
    for _ in range(3):
        time.sleep(CACHE_SECONDS + 0.1)  # each worker remembers its answers that long
        response = server.call("GET", "admin/metrics", token)
        totals.append(response.json()["data"]["total_requests"])
    assert totals == [totals[0], totals[0] + 1, totals[0] + 2]


def samples(server: Server) -> dict[str, dict[tuple[str, ...], float]]:
    """Scrape the counters: name → values of the labels, in the order of their names → number."""
    found: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    for family in text_string_to_metric_families(requests.get(f"{server.base_url}/metrics").text):
        assert family.type in ("counter", "histogram")
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found[sample.name][labels] = sample.value
    return found


def test_prometheus_figures_are_the_sum_over_the_workers(server: Server, demo: Demo):
    scraped = samples(server)
    # What gunicorn itself says of a worker is written before the worker counts.
    lines = [e for e in server.events() if e["logger"] != "gunicorn.error"]
    ended = [event for event in lines if event["event_type"] in ENDS]
    requests_by_route = {
        labels: count
        for labels, count in scraped["http_server_request_duration_seconds_count"].items()
        if labels[1] not in ("/healthz", "/readyz", "/metrics")  # these are not logged
    }

    assert len({event["pid"] for event in ended}) > 1
    assert requests_by_route == Counter(
        (event["method"], event["route"], f"{event['status_code'] // 100}xx") for event in ended
    )
    assert scraped["pellucid_predictions_total"] == Counter(
        (event.get("model_name", ""), event["outcome"])
        for event in lines
        if event["event_type"] == "prediction"
    )
    assert scraped["pellucid_log_records_total"] == Counter(
        (event["level"],) for event in lines if event["pid"] in {e["pid"] for e in ended}
    )


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("PELLUCID_WORKERS", "many", "'many'"),
        ("PELLUCID_JWT_SECRET_KEY", "hunter2", "at least 32 bytes"),
        ("PELLUCID_DATABASE_URL", "mysql://root:hunter2@db/pellucid", "postgresql"),
        ("PELLUCID_WORKER", "hunter2", "did you mean PELLUCID_WORKERS?"),
    ],
)
def test_a_wrong_setting_stops_gunicorn_with_one_line(
    tmp_path: Path, variable: str, value: str, told: str
):
    server = Server(tmp_path)
    server.environ[variable] = value
    ended = server.run("gunicorn", timeout=5)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(rf"pellucid: .*{variable}\b.*\n", ended.stderr)
    assert told in ended.stderr
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "unmigrated"])
def test_gunicorn_refuses_a_database_that_was_not_prepared(tmp_path: Path, exists: bool):
    server = Server(tmp_path)
    database = server.instance_path / "pellucid.db"
    if exists:
        database.parent.mkdir()
        database.touch()
    ended = server.run("gunicorn", timeout=20)

    assert ended.returncode not in (0, None)
    assert ended.stdout == ""
    assert re.fullmatch(r"pellucid: .*flask prepare.*\n", ended.stderr)
    assert exists or not database.exists()


def test_a_second_server_on_the_port_takes_no_count_from_the_first(server: Server, demo: Demo):
    before = requests.get(f"{server.base_url}/metrics", timeout=10).text
    ended = server.run("gunicorn")
    after = requests.get(f"{server.base_url}/metrics", timeout=10).text

    assert ended.returncode != 0
    counted = "pellucid_predictions_total{"
    assert counted in before
    assert counted in after


def test_a_killed_worker_loses_no_line_and_no_count(server: Server, demo: Demo):
    """The last test of this module: it leaves errors of gunicorn's in the log."""
    token = server.login()
    files = sorted(os.listdir(server.instance_path / "metrics"))
    before = samples(server)
    for victims in (1, server.workers):
        answered = server.call("GET", "auth/me", token)
        server.kill(*sorted(server.worker_pids())[:victims])
        ends = [
            event["event_type"]
            for event in server.events(request_id=answered.headers["X-Request-ID"])
        ]
        assert ends == ["request_started", "request_completed"]

    ask_all_workers(server, "auth/me", token, {})
    after = samples(server)
    fallen = [
        (name, labels)
        for name, values in before.items()
        for labels, value in values.items()
        if after[name].get(labels, -1) < value
    ]
    assert fallen == []
    own = after["http_server_request_duration_seconds_count"]["GET", "/api/v1/auth/me", "2xx"]
    assert own == len(server.events(route="/api/v1/auth/me", event_type="request_completed"))
    assert sorted(os.listdir(server.instance_path / "metrics")) == files
