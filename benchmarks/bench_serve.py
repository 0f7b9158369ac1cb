"""How fast predictions are served with everything switched on, beside other servers.

`make bench-serve` needs wrk (Debian has it), and makes environments for the other servers under
build/ when it runs for the first time. All servers are up together and asked in turn, so that
what the machine does meanwhile happens to all of them. `python -m benchmarks.bench_serve workers`
compares gunicorn's worker classes, `… serving`, `… starting` and `… parsing` make the other
tables.
"""

import argparse
import re
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import orjson
import requests
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import peers
from benchmarks.machine import describe
from benchmarks.peers import WORKERS, Ask, Contestant, Peer, Pellucid
from tests.estimators import dump
from tests.process.server import Server, running
from webapp.ml.loading import load_estimator
from webapp.ml.loading.examine import examine
from webapp.ml.predictor import Predictor
from webapp.web.body import validate
from webapp.web.schemas import PredictRequest

CONNECTIONS = 16
ROWS = (1, 100)
ROUNDS = 3
SECONDS = 2
SWITCH_SECONDS = 2.5
COMPILE_SECONDS = 60
REGISTERED = 1000
WORKER_CLASSES = {
    "gthread, 4 threads, no keep-alive": "-k gthread --threads 4 --keep-alive 0",
    "gthread, 4 threads, keep-alive": "-k gthread --threads 4 --keep-alive 5",
    "sync, which closes each connection": "-k sync",
}
console = Console(width=150)


@dataclass(frozen=True)
class Run:
    """What wrk saw; times in seconds."""

    per_second: float
    p50: float
    p99: float
    bad: int


@cache
def models() -> dict[str, Any]:
    """Fit the three models on thirty real measurements."""
    X, y = load_breast_cancer(return_X_y=True)
    made = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
        "forest": RandomForestClassifier(100, random_state=0),
        "boosting": HistGradientBoostingClassifier(random_state=0),
    }
    return {name: estimator.fit(X, y) for name, estimator in made.items()}


def rows(count: int) -> list[Any]:
    """Take rows of the data set as JSON has them."""
    taken: list[Any] = load_breast_cancer().data[:count].tolist()
    return taken


def wrk(ask: Ask, seconds: int) -> Run:
    """Send a request over and over, on sixteen connections."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        headers = {**ask.headers}
        lines = ['wrk.method = "POST"', f"wrk.body = [==[{ask.body.decode()}]==]"]
        lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
        script.write("\n".join(lines))
        script.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s"]
        done = subprocess.run([*command, script.name, ask.url], capture_output=True, text=True)
    output = done.stdout + done.stderr
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if rate is None:
        raise SystemExit(f"wrk failed: {output}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    # Reading a connection that the server closes counts as no error: keep-alive is off.
    failed = re.search(r"connect (\d+), read \d+, write (\d+), timeout (\d+)", output)
    count = int(bad[1]) if bad else 0
    count += sum(map(int, failed.groups())) if failed else 0
    return Run(float(rate[1]), _quantile(output, 50), _quantile(output, 99), count)


def _quantile(output: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s)$", output, re.MULTILINE)
    if found is None:
        return float("nan")
    return float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]]


def alternate(asks: dict[str, Ask], rounds: int, seconds: int) -> dict[str, Run]:
    """Ask all in turn, several times; return the medians."""
    runs: dict[str, list[Run]] = {name: [] for name in asks}
    for ask in asks.values():
        wrk(ask, 1)
    for _ in range(rounds):
        for name, ask in asks.items():
            runs[name].append(wrk(ask, seconds))
    return {
        name: Run(
            *(
                statistics.median(getattr(run, one) for run in own)
                for one in ("per_second", "p50", "p99")
            ),
            sum(run.bad for run in own),
        )
        for name, own in runs.items()
    }


@contextmanager
def pellucid(folder: Path, gunicorn_args: str = "") -> Iterator[Pellucid]:
    """Start the program and upload the models."""
    with running(folder, workers=WORKERS, access_token_seconds=3600) as server:
        if gunicorn_args:
            server.stop()
            server.environ["GUNICORN_CMD_ARGS"] = gunicorn_args
            server.start()
        token = server.login()
        for name, estimator in models().items():
            data, files = {"name": name}, {"file": dump(estimator)}
            answer = server.call("POST", "models/upload", token, data=data, files=files)
            answer.raise_for_status()
        wait_for_compilation(server, token)
        yield Pellucid(server, token)


def wait_for_compilation(server: Server, token: str) -> None:
    """Wait until every passport says what came of compiling the model, if it says that at all."""
    deadline = time.monotonic() + COMPILE_SECONDS
    for name in models():
        while time.monotonic() < deadline:
            model = server.call("GET", f"models/{name}", token).json()["data"]
            if model["versions"][0]["passport"].get("compilation", "none") is not None:
                break
            time.sleep(0.2)
    time.sleep(SWITCH_SECONDS)


def start_peers(folder: Path, stack: ExitStack) -> tuple[list[Peer], dict[str, str]]:
    """Start the other servers; return those that serve, and why the others do not."""
    for name, estimator in models().items():
        joblib.dump(estimator, folder / f"{name}.joblib")
    makers: dict[str, Callable[[Path, frozenset[str]], Peer]] = {
        "bare Flask + onnxruntime": peers.bare_onnx,
        "bare Flask + scikit-learn": peers.bare_sklearn,
        "MLServer": peers.mlserver,
        "LitServe": peers.litserve,
    }
    started, absent = [], {}
    for name, make in makers.items():
        console.print(f"starting {name} …")
        try:
            peer = make(folder, frozenset(models()))
            stack.callback(peer.stop)
            peer.wait()
        except (RuntimeError, subprocess.CalledProcessError) as error:
            absent[name] = str(error)
        else:
            started.append(peer)
    return started, absent


def show_serving(rounds: int, seconds: int) -> None:
    """Print requests per second of all servers, and their memory."""
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        (folder / "peers").mkdir()
        console.print("starting Pellucid …")
        ours = stack.enter_context(pellucid(folder / "pellucid"))
        others, absent = start_peers(folder / "peers", stack)
        contestants: list[Contestant] = [ours, *others]
        for count in ROWS:
            for model in models():
                console.print(f"asking for {model}, rows: {count} …")
                show_case(contestants, model, count, rounds, seconds)
        show_memory(contestants)
        for name, reason in absent.items():
            console.print(f"{name}: {reason}")


def show_case(
    contestants: list[Contestant], model: str, count: int, rounds: int, seconds: int
) -> None:
    """Print one model and one number of rows."""
    made = {one.name: one.ask(model, rows(count)) for one in contestants}
    asks = {name: ask for name, ask in made.items() if ask is not None}
    runs = alternate(asks, rounds, seconds)
    ours = runs[Pellucid.name]
    table = Table(
        "server", "requests/s", "Pellucid is × this", "p50 ms", "p99 ms", "p99/p50", "not 2xx"
    )
    for name, run in runs.items():
        times = (f"{run.p50 * 1e3:.2f}", f"{run.p99 * 1e3:.2f}", f"{run.p99 / run.p50:.1f}")
        ratio = f"{ours.per_second / run.per_second:.2f}"
        table.add_row(name, f"{run.per_second:,.0f}", ratio, *times, str(run.bad))
    console.print(f"{model}, rows: {count}, {CONNECTIONS} connections", table)


def show_memory(contestants: list[Contestant]) -> None:
    """Print the memory of every process that serves, with the three models loaded."""
    table = Table("server", "MB of each process (PSS)", "how it runs")
    for one in contestants:
        shares = [f"{pss_bytes(pid) / 1e6:.0f}" for pid in one.pids()]
        table.add_row(one.name, " ".join(shares), one.about)
    console.print("Memory, three models loaded", table)


def pss_bytes(pid: int) -> int:
    """Read the memory of a process; what several share is divided among them."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


def show_starting(rounds: int, seconds: int) -> None:
    """Print how long a start and a first prediction take, and what 1,000 models change."""
    table = Table("models", "start s", *(f"first {name} s" for name in models()), "requests/s")
    with (
        tempfile.TemporaryDirectory(prefix="bench-serve-") as folder,
        pellucid(Path(folder)) as ours,
    ):
        for count in (len(models()), REGISTERED):
            console.print(f"starting with {count} models …")
            multiply_models(ours.server, count)
            ours.server.stop()
            began = time.perf_counter()
            ours.server.start()
            start = time.perf_counter() - began
            firsts = [first_seconds(ours.ask(name, rows(1))) for name in models()]
            rates = alternate({"": ours.ask("logistic", rows(1))}, rounds, seconds)
            figures = [f"{value:.2f}" for value in (start, *firsts)]
            table.add_row(str(count), *figures, f"{rates[''].per_second:,.0f}")
    console.print("Until all workers are ready, and until the first answer of each model", table)


def first_seconds(ask: Ask) -> float:
    """Time one request."""
    began = time.perf_counter()
    requests.post(ask.url, ask.body, headers=ask.headers, timeout=30).raise_for_status()
    return time.perf_counter() - began


def multiply_models(server: Server, count: int) -> None:
    """Register more models with the file of one that is there."""
    with sqlite3.connect(server.instance_path / "pellucid.db") as database:
        database.row_factory = sqlite3.Row
        query = "SELECT * FROM registered_models WHERE name = 'logistic'"
        model = dict(database.execute(query).fetchone())
        query = "SELECT * FROM model_versions WHERE model_id = ?"
        version = dict(database.execute(query, [model["id"]]).fetchone())
        (there,) = database.execute("SELECT count(*) FROM registered_models").fetchone()
        for number in range(there, count):
            new = f"{number:08x}-0000-7000-8000-000000000000"
            insert(database, "registered_models", {**model, "id": new, "name": f"m{number}"})
            insert(database, "model_versions", {**version, "id": new, "model_id": new})
    database.close()


def insert(database: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    """Insert one row."""
    columns, places = ", ".join(row), ", ".join("?" * len(row))
    database.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", list(row.values()))


def show_parsing() -> None:
    """Print what reading and checking 100 rows of JSON costs."""
    data = dump(models()["logistic"])
    predictor = Predictor(load_estimator(data), examine(data, 10_000, ()))
    body = orjson.dumps({"model_id": "logistic", "input_data": rows(100)})
    times = []
    for _ in range(500):
        began = time.perf_counter()
        content = validate(PredictRequest, orjson.loads(body))
        predictor._reader.read(content.input_data)
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times)
    console.print(f"100 rows of 30 numbers in JSON: parsed and checked in {seconds * 1e3:.3f} ms\n")


def show_workers(rounds: int, seconds: int) -> None:
    """Print what gunicorn's worker classes make of the same program."""
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder, ExitStack() as stack:
        servers = {}
        for number, (name, arguments) in enumerate(WORKER_CLASSES.items()):
            console.print(f"starting {name} …")
            started = pellucid(Path(folder) / str(number), arguments)
            servers[name] = stack.enter_context(started)
        asks = {name: ours.ask("boosting", rows(1)) for name, ours in servers.items()}
        runs = alternate(asks, rounds, seconds)
        table = Table(
            "workers", "requests/s", "p50 ms", "p99 ms", "not 2xx", "busiest worker's share"
        )
        for name, run in runs.items():
            times = (f"{run.p50 * 1e3:.2f}", f"{run.p99 * 1e3:.2f}")
            share = f"{busiest_share(servers[name].server):.0%}"
            table.add_row(name, f"{run.per_second:,.0f}", *times, str(run.bad), share)
    title = f"boosting, 1 row, {CONNECTIONS} connections, {WORKERS} workers"
    console.print(title, table)


def busiest_share(server: Server) -> float:
    """Read from the log which part of the predictions one worker made."""
    made = Counter(event["pid"] for event in server.events(event_type="prediction"))
    return max(made.values()) / made.total()


def main() -> None:
    """Measure and print."""
    parts = ("serving", "starting", "parsing", "workers")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each server")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each run")
    parser.add_argument("parts", nargs="*", default=parts, metavar=" ".join(parts))
    arguments = parser.parse_args()
    console.print(describe())
    if "parsing" in arguments.parts:
        show_parsing()
    if "starting" in arguments.parts:
        show_starting(arguments.rounds, arguments.seconds)
    if "workers" in arguments.parts:
        show_workers(arguments.rounds, arguments.seconds)
    if "serving" in arguments.parts:
        show_serving(arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
