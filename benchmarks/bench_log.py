"""What one log line costs, and what is lost: ours beside the handlers that people use.

`make bench-log` prints three tables: the price of a record, the records lost when four processes
share a rotating file, and what the hooks cost a request.
"""

import argparse
import logging
import logging.handlers
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from concurrent_log_handler import ConcurrentRotatingFileHandler
from pythonjsonlogger.orjson import OrjsonFormatter
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.wrk import Ask, load_server
from webapp import metrics
from webapp.events import canonical, handlers
from webapp.settings import load

RECORDS = 20_000
ROUNDS = 10
WARM_UP = 2_000
REPEATS = 5
# How fast a process is depends on where its memory happens to lie, by a few hundredths. So each
# pair of servers is started several times; its runs are short, so that what else happens on the
# machine mostly happens to both.
SERVERS = 11
RUNS = 5
WRK_SECONDS = 1
CONNECTIONS = 2
PROCESSES = 4
RECORDS_EACH = 100_000
PACED_RECORDS = 5_000
PAUSE_SECONDS = 0.001
# Whoever looks each millisecond takes a core from a writer each millisecond.
LOOK_SECONDS = 0.02
SEGMENT_BYTES = 4 * 2**20
OURS, STDLIB, CLH = "Pellucid", "RotatingFileHandler", "concurrent-log-handler"
NOWHERE = "StreamHandler, /dev/null"  # what the machine takes, whatever is done with the lines
KINDS = (NOWHERE, STDLIB, CLH, OURS)
# Enough for 4 x 100,000 records of 450 bytes: nothing may be lost by deleting old files.
BACKUPS = 200
console = Console(width=120)
logging.raiseExceptions = False  # RotatingFileHandler fails where another process rotated

EXTRA = {
    "event_type": "user_action",  # a prediction's line waits for the next of its request
    "action": "make_prediction",
    "outcome": "success",
    "model_id": "0193a5b0-5d2a-7c3e-9f10-1b2c3d4e5f60",
    "model_version": 3,
    "rows": 1,
    "duration": 0.001234,
    "engine": "sklearn",
}
CONTEXT = {
    "request_id": "0193a5b0-5d2a-7c3e-9f10-abcdefabcdef",
    "method": "POST",
    "path": "/api/v1/predictions/predict",
    "route": "/api/v1/predictions/predict",
    "client_ip": "127.0.0.1",
}


def configure(kind: str, folder: Path) -> None:
    """Send the records of this process to a rotating file, with one kind of handler."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == OURS:
        settings = load(
            {},
            {
                "instance_path": folder,
                "log_dir": folder,
                "log_segment_bytes": SEGMENT_BYTES,
                "log_stdout": "off",
                "jwt_secret_key": "k" * 64,
            },
        )
        handlers.configure(settings, on_written=metrics.count_log_record)
        canonical.enter(canonical.RequestEvent(dict(CONTEXT), slow_seconds=1.0))
        return
    options: dict[str, Any] = {"maxBytes": SEGMENT_BYTES, "backupCount": BACKUPS}
    handler: logging.Handler
    if kind == NOWHERE:
        handler = logging.StreamHandler(open(os.devnull, "w"))  # noqa: SIM115
    elif kind == STDLIB:
        handler = logging.handlers.RotatingFileHandler(folder / "app.log", **options)
    else:
        handler = ConcurrentRotatingFileHandler(str(folder / "app.log"), **options)
    handler.setFormatter(
        OrjsonFormatter(
            "%(levelname)s %(name)s %(message)s %(module)s %(funcName)s %(lineno)d %(process)d",
            timestamp=True,
            static_fields=CONTEXT,  # what ours takes from the request that is being served
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def write(count: int, writer: int, acknowledge: Callable[[int], None] | None = None) -> list[float]:
    """Write records, and return how long each took, in seconds."""
    log = logging.getLogger("webapp.services.predictions")
    seconds = []
    for number in range(count):
        began = time.perf_counter()
        log.info("Prediction completed", extra={**EXTRA, "writer": writer, "number": number})
        seconds.append(time.perf_counter() - began)
        if acknowledge is not None:
            acknowledge(number)
    return seconds


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a process of its own, so that no handler meets another one's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def price(kind: str, folder: Path) -> tuple[float, float]:
    """Measure one writer alone: the seconds of a record (median of rounds), and a line's bytes."""
    configure(kind, folder)
    write(WARM_UP, 0)
    rounds = [statistics.fmean(write(RECORDS // ROUNDS, 0)) for _ in range(ROUNDS)]
    written = sum(path.stat().st_size for path in folder.glob("app*"))
    return statistics.median(rounds), written / (RECORDS + WARM_UP)


def compete(
    kind: str, folder: Path, writer: int, count: int, report: Any, pause_seconds: float = 0.0
) -> None:
    """Write beside other processes; report each number after its logging call returned."""
    configure(kind, folder)

    def acknowledge(number: int) -> None:
        report.acknowledge(number)
        if pause_seconds:
            time.sleep(pause_seconds)

    report.finish(write(count, writer, acknowledge))


class Report:
    """A writer's word to its parent, in shared memory: it outlives a SIGKILL of the writer."""

    def __init__(self, context: Any, count: int) -> None:
        self.acknowledged = context.Value("q", -1, lock=False)
        self._seconds = context.Array("d", count, lock=False)

    def acknowledge(self, number: int) -> None:
        """Say that the call for this number returned."""
        self.acknowledged.value = number

    def finish(self, seconds: list[float]) -> None:
        """Hand over how long each call took."""
        self._seconds[: len(seconds)] = seconds

    def seconds(self) -> list[float]:
        """Read how long each call took."""
        return [value for value in self._seconds if value]


def share(kind: str, folder: Path, count: int) -> dict[str, Any]:
    """Let four processes share a log that rotates; kill one midway, and start another for it."""
    context = multiprocessing.get_context("spawn")
    reports = [Report(context, count) for _ in range(PROCESSES + 1)]
    writers = [
        context.Process(target=compete, args=(kind, folder, number, count, reports[number]))
        for number in range(PROCESSES)
    ]
    for writer in writers:
        writer.start()
    while reports[0].acknowledged.value < count // 2:
        time.sleep(LOOK_SECONDS)
    assert writers[0].pid is not None
    os.kill(writers[0].pid, signal.SIGKILL)
    writers.append(
        context.Process(
            target=compete, args=(kind, folder, PROCESSES, count // 2, reports[PROCESSES])
        )
    )
    writers[-1].start()
    for writer in writers:
        writer.join()
    acknowledged = {
        (number, index)
        for number, report in enumerate(reports)
        for index in range(report.acknowledged.value + 1)
    }
    found, broken = read(folder)
    seconds = sorted(value for report in reports for value in report.seconds())
    return {
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - found.keys()),
        "torn": broken,
        "twice": sum(times - 1 for times in found.values()),
        "p50": seconds[len(seconds) // 2],
        "p99": seconds[len(seconds) * 99 // 100],
    }


def pace(kind: str, folder: Path) -> tuple[float, float]:
    """Let four processes write a line each millisecond or so, as a busy service does.

    Writers that do nothing but write wait for a core, however the log is made: with two cores for
    four of them, one call in fifty is interrupted for a time slice of 3 ms.
    """
    context = multiprocessing.get_context("spawn")
    reports = [Report(context, PACED_RECORDS) for _ in range(PROCESSES)]
    writers = [
        context.Process(
            target=compete,
            args=(kind, folder, number, PACED_RECORDS, report, PAUSE_SECONDS),
        )
        for number, report in enumerate(reports)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    seconds = sorted(value for report in reports for value in report.seconds())
    return seconds[len(seconds) // 2], seconds[len(seconds) * 99 // 100]


def read(folder: Path) -> tuple[Counter[tuple[int, int]], int]:
    """Count each record found in the files, and the lines that are none."""
    found: Counter[tuple[int, int]] = Counter()
    broken = 0
    for path in folder.glob("app*"):
        for line in path.read_bytes().split(b"\n"):
            if not line:
                continue
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                broken += 1
                continue
            if "number" in record:
                found[record["writer"], record["number"]] += 1
    return found, broken


@contextmanager
def serving(hooks: bool) -> Iterator[str]:
    """Run one Flask endpoint under gunicorn; give its URL."""
    port = free_port()
    command = ["-b", f"127.0.0.1:{port}", "-w", "1", "-k", "sync", "--no-control-socket"]
    gunicorn = [sys.executable, "-m", "gunicorn", "-c", "/dev/null", *command]
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            **os.environ,
            "HOOKS": str(int(hooks)),
            "PELLUCID_INSTANCE_PATH": folder,
            "PELLUCID_LOG_DIR": f"{folder}/logs",
            "PELLUCID_LOG_STDOUT": "off",
            "PROMETHEUS_MULTIPROC_DIR": folder,
        }
        with subprocess.Popen(
            [*gunicorn, "benchmarks.endpoint:app"], env=environ, stderr=subprocess.DEVNULL
        ) as server:
            try:
                url = f"http://127.0.0.1:{port}/answer"
                wait_for(url)
                yield url
            finally:
                server.terminate()


def per_second(url: str) -> float:
    """Measure requests per second, with wrk."""
    run = load_server(Ask(url), WRK_SECONDS, CONNECTIONS)
    assert run.bad == 0, run
    return run.per_second


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    for _ in range(100):
        try:
            urllib.request.urlopen(url).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"no answer from {url}")


def show_price() -> None:
    """Print what a record costs, all handlers in turn."""
    results: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(REPEATS):
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as folder:
                results[kind].append(in_process(price, kind, Path(folder)))
    best = {kind: min(mean for mean, _ in measured) for kind, measured in results.items()}
    table = Table("handler", "µs a record", "of concurrent-log-handler", "bytes a line")
    for kind in KINDS:
        ratio = f"{best[kind] / best[CLH]:.2f}"
        table.add_row(kind, f"{best[kind] * 1e6:.1f}", ratio, f"{results[kind][0][1]:.0f}")
    console.print("One record, one writer", table)


def show_sharing(count: int) -> None:
    """Print what is lost when processes share the file."""
    names = ("acknowledged", "lost", "torn", "twice", "p50", "p99")
    table = Table("handler", *names[:4], "p50 µs", "p99 µs", "paced p50 µs", "paced p99 µs")
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            result = share(kind, Path(folder), count)
        with tempfile.TemporaryDirectory() as folder:
            paced = pace(kind, Path(folder))
        figures = [f"{result[name]:,}" for name in names[:4]]
        times = [result["p50"], result["p99"], *paced]
        table.add_row(kind, *figures, *(f"{seconds * 1e6:.0f}" for seconds in times))
    title = f"{PROCESSES} processes × {count:,} records, rotation every 4 MiB, one killed midway"
    console.print(title, table)


def show_hooks() -> None:
    """Print what the hooks cost a request, in alternated runs."""
    if shutil.which("wrk") is None:
        console.print("The hooks are not measured: wrk is not installed.")
        return
    os.sync()  # what the other parts left to be written would be written meanwhile
    pairs = [pair for _ in range(SERVERS) for pair in alternated()]
    bare, hooked = (statistics.median(measured) for measured in zip(*pairs, strict=True))
    ratio = statistics.median(with_hooks / without for without, with_hooks in pairs)
    table = Table("endpoint", "requests/s", "ratio")
    table.add_row("bare Flask", f"{bare:.0f}", "1.00")
    table.add_row("all hooks, two lines, metrics", f"{hooked:.0f}", f"{ratio:.3f}")
    console.print("One Flask JSON endpoint, gunicorn, 1 sync worker", table)


def alternated() -> Iterator[tuple[float, float]]:
    """Measure requests per second without the hooks and with them, one after the other."""
    with serving(hooks=False) as bare, serving(hooks=True) as hooked:
        for url in (bare, hooked):  # which have been asked nothing yet
            per_second(url)
        for _ in range(RUNS):
            yield per_second(bare), per_second(hooked)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS_EACH, help="of each process")
    parser.add_argument("parts", nargs="*", default=["price", "sharing", "hooks"])
    arguments = parser.parse_args()
    console.print(describe())
    if "price" in arguments.parts:
        show_price()
    if "sharing" in arguments.parts:
        show_sharing(arguments.records)
    if "hooks" in arguments.parts:
        show_hooks()


if __name__ == "__main__":
    main()
