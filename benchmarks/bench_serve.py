"""How fast predictions are served with everything switched on, beside other servers.

`make bench-serve` needs wrk (Debian has it), and makes environments for the other servers under
build/ when it runs for the first time. All servers are up together and asked in turn, so that
what the machine does meanwhile happens to all of them. `python -m benchmarks.bench_serve workers`
compares gunicorn's worker classes, `… serving`, `… starting` and `… parsing` make the other
tables; `--rounds 1 --seconds 1 --starts 1` is enough to see whether all of it works.
"""

import argparse
import re
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from benchmarks.peers import WORKERS, Contestant, Peer, Pellucid
from benchmarks.wrk import Ask, Run, load_server
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
STARTS = 5
COMPILE_SECONDS = 240
REGISTERED = 1000
WORKER_CLASSES = {
    "sync, which closes each connection": "-k sync",
    "gthread, 1 thread": "-k gthread --threads 1 --keep-alive 0",
    "gthread, 2 threads": "-k gthread --threads 2 --keep-alive 0",
    "gthread, 4 threads": "-k gthread --threads 4 --keep-alive 0",
    "gthread, 4 threads, keep-alive": "-k gthread --threads 4 --keep-alive 5",
}
PARTS = ("parsing", "starting", "workers", "serving")
FIGURES = ("requests/s", "p50 ms", "p99 ms", "p99/p50", "not 2xx")
console = Console(width=150)


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


def alternate(asks: dict[str, Ask], rounds: int, seconds: int) -> dict[str, Run]:
    """Ask all in turn, several times; return the medians."""
    runs: dict[str, list[Run]] = {name: [] for name in asks}
    for ask in asks.values():
        load_server(ask, 1, CONNECTIONS)
    for _ in range(rounds):
        for name, ask in asks.items():
            runs[name].append(load_server(ask, seconds, CONNECTIONS))
    return {name: Run.of(own) for name, own in runs.items()}


def make_template(folder: Path) -> Path:
    """Upload the models to a server, and wait until ONNX Runtime is to serve all of them.

    Returns its instance folder, from which any number of servers can be started.
    """
    with running(folder, workers=WORKERS) as server:
        token = server.login()
        for name, estimator in models().items():
            data, files = {"name": name}, {"file": dump(estimator)}
            answer = server.call("POST", "models/upload", token, data=data, files=files)
            answer.raise_for_status()
        deadline = time.monotonic() + COMPILE_SECONDS
        for name in models():
            wait_for_onnx(server, token, name, deadline)
        return server.instance_path


def wait_for_onnx(server: Server, token: str, name: str, deadline: float) -> None:
    """Wait until a model is compiled, and end the program if scikit-learn is to serve it."""
    compilation = None
    while compilation is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"{name} was not compiled in {COMPILE_SECONDS} s")
        time.sleep(0.2)
        model = server.call("GET", f"models/{name}", token).json()["data"]
        compilation = model["versions"][0]["passport"]["compilation"]
    if compilation["engine"] != "onnx":
        raise SystemExit(f"{name} stays on scikit-learn: {compilation['reason']}")


@contextmanager
def pellucid(folder: Path, template: Path, gunicorn_args: str = "") -> Iterator[Pellucid]:
    """Start the program with the models of a template."""
    server = Server(folder, workers=WORKERS, access_token_seconds=3600)
    shutil.copytree(template, server.instance_path)
    server.environ["GUNICORN_CMD_ARGS"] = gunicorn_args
    try:
        server.start()
        yield Pellucid(server, server.login())
    finally:
        server.stop()


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


def show_serving(template: Path, rounds: int, seconds: int) -> None:
    """Print requests per second of all servers, and their memory."""
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        (folder / "peers").mkdir()
        console.print("starting Pellucid …")
        ours = stack.enter_context(pellucid(folder / "pellucid", template))
        others, absent = start_peers(folder / "peers", stack)
        contestants: list[Contestant] = [ours, *others]
        for one in contestants:
            console.print(f"{one.name}: {one.about}")
        for name, reason in absent.items():
            console.print(f"{name} is not there: {reason}")
        for count in ROWS:
            for model in models():
                show_case(contestants, model, count, rounds, seconds)
        show_memory(contestants)


def show_case(
    contestants: list[Contestant], model: str, count: int, rounds: int, seconds: int
) -> None:
    """Print one model and one number of rows."""
    made = {one.name: one.ask(model, rows(count)) for one in contestants}
    asks = {name: ask for name, ask in made.items() if ask is not None}
    runs = alternate(asks, rounds, seconds)
    ours = runs[Pellucid.name]
    table = Table("server", *FIGURES, "Pellucid is × this")
    for name, run in runs.items():
        table.add_row(name, *figures(run), f"{ours.per_second / run.per_second:.2f}")
    console.print(f"{model}, rows: {count}, {CONNECTIONS} connections", table)


def figures(run: Run) -> list[str]:
    """Write what FIGURES names."""
    return [
        f"{run.per_second:,.0f}",
        f"{run.p50 * 1e3:.2f}",
        f"{run.p99 * 1e3:.2f}",
        f"{run.p99 / run.p50:.1f}",
        str(run.bad),
    ]


def show_memory(contestants: list[Contestant]) -> None:
    """Print the memory of every process that serves, with the three models loaded."""
    table = Table("server", "MB of each process (PSS)")
    for one in contestants:
        table.add_row(one.name, megabytes(one))
    console.print("Memory, three models loaded", table)


def megabytes(one: Contestant) -> str:
    """Tell the memory of each process of a server."""
    return " ".join(f"{pss_bytes(pid) / 1e6:.0f}" for pid in one.pids())


def pss_bytes(pid: int) -> int:
    """Read the memory of a process; what several share is divided among them."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


def show_starting(template: Path, starts: int, rounds: int, seconds: int) -> None:
    """Print how long a start and a first prediction take, and what 1,000 models change."""
    times = ("first 200", *(f"first {name}" for name in models()))
    rates = (f"{name} requests/s" for name in models())
    table = Table("models", *(f"{name} s" for name in times), *rates, "MB of each worker (PSS)")
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as temporary:
        for count in (len(models()), REGISTERED):
            console.print(f"starting {starts} times with {count} models …")
            with pellucid(Path(temporary) / str(count), template) as ours:
                multiply_models(ours.server, count)
                medians = map(statistics.median, zip(*start(ours, starts), strict=True))
                asks = {name: ours.ask(name, rows(1)) for name in models()}
                runs = alternate(asks, rounds, seconds)
                table.add_row(
                    f"{count:,}",
                    *(f"{value:.2f}" for value in medians),
                    *(f"{run.per_second:,.0f}" for run in runs.values()),
                    megabytes(ours),
                )
    console.print(f"Medians of {starts} starts, from nothing to the first answers", table)


def start(ours: Pellucid, starts: int) -> Iterator[list[float]]:
    """Start the server over and over; time its first 200, then the first answer of each model."""
    server = ours.server
    for _ in range(starts):
        server.stop()
        began = time.perf_counter()
        server.launch()
        while not is_ready(server):
            time.sleep(0.01)
        first = time.perf_counter() - began
        server.wait_until_ready()
        yield [first, *(first_seconds(ours.ask(name, rows(1))) for name in models())]


def is_ready(server: Server) -> bool:
    """Tell whether a worker answers that it is ready."""
    try:
        return requests.get(f"{server.base_url}/readyz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


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
    predictor = Predictor(load_estimator(data), examine(data, 10_000))
    body = orjson.dumps({"model_id": "logistic", "input_data": rows(100)})
    times = []
    for _ in range(500):
        began = time.perf_counter()
        content = validate(PredictRequest, orjson.loads(body))
        predictor._reader.read(content.input_data)
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times)
    console.print(f"100 rows of 30 numbers in JSON: parsed and checked in {seconds * 1e3:.3f} ms\n")


def show_workers(template: Path, rounds: int, seconds: int) -> None:
    """Print what gunicorn's worker classes make of the same program."""
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder, ExitStack() as stack:
        servers = {}
        for number, (name, arguments) in enumerate(WORKER_CLASSES.items()):
            console.print(f"starting {name} …")
            started = pellucid(Path(folder) / str(number), template, arguments)
            servers[name] = stack.enter_context(started)
        asks = {name: ours.ask("logistic", rows(1)) for name, ours in servers.items()}
        runs = alternate(asks, rounds, seconds)
        table = Table("workers", *FIGURES, "busiest worker's share")
        for name, run in runs.items():
            table.add_row(name, *figures(run), f"{busiest_share(servers[name].server):.0%}")
    title = f"logistic, 1 row, {CONNECTIONS} connections, {WORKERS} workers"
    console.print(title, table)


def busiest_share(server: Server) -> float:
    """Read from the log which part of the predictions one worker made."""
    made = Counter(event["pid"] for event in server.events(event_type="prediction"))
    return max(made.values()) / made.total()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each server")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each run")
    parser.add_argument("--starts", type=int, default=STARTS, help="of the part `starting`")
    parser.add_argument("parts", nargs="*", default=PARTS, metavar=" ".join(PARTS))
    arguments = parser.parse_args()
    if unknown := {*arguments.parts} - {*PARTS}:
        parser.error(f"there is no part {min(unknown)}")
    console.print(describe())
    if "parsing" in arguments.parts:
        show_parsing()
    if {*arguments.parts} == {"parsing"}:
        return
    measured = (arguments.rounds, arguments.seconds)
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder:
        console.print("compiling the models …")
        template = make_template(Path(folder))
        if "starting" in arguments.parts:
            show_starting(template, arguments.starts, *measured)
        if "workers" in arguments.parts:
            show_workers(template, *measured)
        if "serving" in arguments.parts:
            show_serving(template, *measured)


if __name__ == "__main__":
    main()
