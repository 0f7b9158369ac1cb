"""How fast the log answers: `flask logs` beside jq and DuckDB on the raw lines.

`make bench-query` makes 1,000,000 events (ROWS=10000000 for more) by the generator of the tests,
archives them with the real archiver, adds a live segment of 32 MiB, and measures whole commands,
from shell to output, with a warm page cache.
"""

import multiprocessing
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from tests.log_lines import START, traffic

ROWS = int(os.environ.get("ROWS", "1_000_000"))
SEGMENT_BYTES = 64 * 2**20
LIVE_BYTES = 32 * 2**20
REQUESTS_PER_SECOND = 20.0
ENOUGH_REQUESTS = 10**6
SEGMENT_TIME = timedelta(hours=1)
REPEATS = 3
MIB = 2**20
# What is asked for: seconds, times faster than jq; at 1 M and at 10 M events.
LIMITS = (1.2, 6) if ROWS < 5_000_000 else (2.0, 30)
MEMORY_LIMIT_MB = 600
ARCHIVER_MEMORY_LIMIT_MB = 512
HELP_LIMIT_SECONDS = 0.5
ARCHIVE_RATIO = 12
CONVERSION_MB_PER_SECOND = 50
ENDS = '.event_type == "request_completed" or .event_type == "request_failed"'
SQL_ENDS = "event_type IN ('request_completed', 'request_failed')"
console = Console()


@dataclass(frozen=True)
class Question:
    """One question in three languages; jq only picks the values that an exact p95 would need."""

    name: str
    flask: str
    jq: str
    sql: str


@dataclass(frozen=True)
class Run:
    """What one command took."""

    seconds: float
    cpu_seconds: float
    memory_mb: float
    output: str


def questions(email: str, request_id: str) -> list[Question]:
    """Write the questions of an operator."""
    return [
        Question(
            "levels",
            "levels",
            "jq -r .level | sort | uniq -c",
            "SELECT level, count(*) FROM lines GROUP BY level",
        ),
        Question(
            "endpoints (exact p95)",
            "endpoints",
            f"jq -c 'select({ENDS}) | [.method, .route, .duration]' | sort | uniq -c | tail -n 1",
            f"""SELECT method, route, count(*), quantile_cont(duration, 0.95) FROM lines
            WHERE {SQL_ENDS} GROUP BY ALL""",
        ),
        Question(
            "slow",
            "slow",
            f"jq -r 'select(({ENDS}) and .duration > 1) | [.duration, .request_id] | @tsv'"
            " | sort -rn | head -n 20",
            f"""SELECT duration, request_id FROM lines WHERE {SQL_ENDS}
            ORDER BY duration DESC LIMIT 20""",
        ),
        Question(
            "errors",
            "errors",
            "jq -r 'select(.level == \"ERROR\") | [.fingerprint, .request_id] | @tsv'"
            " | sort -u | cut -f 1 | uniq -c",
            """SELECT fingerprint, count(DISTINCT request_id) FROM lines WHERE level = 'ERROR'
            GROUP BY fingerprint""",
        ),
        Question(
            "logins of one e-mail",
            f"logins --email {email}",
            f'jq -c \'select(.action == "login" and .email == "{email}")\' | tail -n 20',
            f"""SELECT timestamp, outcome FROM lines WHERE action = 'login' AND email = '{email}'
            ORDER BY timestamp DESC LIMIT 20""",
        ),
        Question(
            "one request",
            f"request {request_id}",
            f"jq -c 'select(.request_id == \"{request_id}\")'",
            f"SELECT * FROM lines WHERE request_id = '{request_id}'",
        ),
    ]


def write_segment(job: tuple[Path, int, int, int]) -> int:
    """Write lines until a segment is full, or has as many events as wanted; count them."""
    path, number, most_bytes, most_events = job
    written = count = 0
    begin = START + number * SEGMENT_TIME
    events = traffic(
        ENOUGH_REQUESTS, start=begin, per_second=REQUESTS_PER_SECOND, seed=number, processes=4
    )
    with path.open("wb") as file:
        for event in events:
            written += file.write(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
            if written >= most_bytes or count >= most_events:
                break
    return count


def segment_name(number: int) -> str:
    """Name a segment as the service does, after the time of its closing."""
    closed = START + (number + 1) * SEGMENT_TIME
    return f"app-{closed:%Y%m%dT%H%M%S.%f}Z-4711.jsonl"


def make_log(log_dir: Path, raw_dir: Path) -> tuple[int, int]:
    """Write closed segments and the active file, keeping the lines as well; count both."""
    console.print(f"writing {ROWS:,} events …")
    events = number = 0
    with multiprocessing.get_context("spawn").Pool() as pool:
        while events < ROWS:
            per_segment = events // number if number else ROWS
            todo = min(os.cpu_count() or 1, max(1, (ROWS - events) // max(per_segment, 1)))
            jobs = [
                (log_dir / segment_name(number + n), number + n, SEGMENT_BYTES, ROWS - events)
                for n in range(todo)
            ]
            events += sum(pool.map(write_segment, jobs))
            number += todo
    for path in log_dir.glob("app-*.jsonl"):
        os.link(path, raw_dir / path.name)
    live = write_segment((log_dir / "app.log", number, LIVE_BYTES, ROWS))
    os.link(log_dir / "app.log", raw_dir / "app.log")
    return events, live


def convert(log_dir: Path) -> tuple[Run, int, int]:
    """Archive every segment, as the service does; give what it took, bytes before and after."""
    before = sum(path.stat().st_size for path in log_dir.glob("app-*.jsonl"))
    archiver = f"{shlex.quote(sys.executable)} -m webapp.logstore.archive --log-dir {log_dir}"
    done = run(f"exec {archiver} --retention-days 999999 --max-bytes {10**15}")
    return done, before, sum(path.stat().st_size for path in log_dir.glob("archive/*/*.parquet"))


def run(command: str) -> Run:
    """Run a shell command; give seconds, peak memory of its largest process, and output.

    The peak is never less than that of this process, which the child was forked from.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(["/bin/sh", "-c", command], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed")
    cpu = usage.ru_utime + usage.ru_stime
    return Run(time.perf_counter() - begin, cpu, usage.ru_maxrss / 1024, output)


def best_of(repeats: int, command: str) -> Run:
    """Run a command some times; give the median of the seconds and the most memory."""
    runs = [run(command) for _ in range(repeats)]
    seconds = statistics.median(r.seconds for r in runs)
    return Run(seconds, runs[0].cpu_seconds, max(r.memory_mb for r in runs), runs[0].output)


def on_raw_lines(raw_dir: Path, question: Question) -> str:
    """Write the command that asks DuckDB on the raw lines, with columns as it infers them."""
    lines = f"read_json('{raw_dir}/*', format = 'newline_delimited', union_by_name = true)"
    sql = question.sql.replace("lines", f"({'FROM ' + lines})")
    code = f"import duckdb; print(duckdb.execute({sql!r}).fetchall())"
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"


def measure(log_dir: Path, raw_dir: Path) -> bool:
    """Print what each question takes; tell whether all are within the limits."""
    flask = f"{shlex.quote(sys.executable)} -m flask logs"
    group = orjson.loads(run(f"{flask} errors --limit 1 --log-dir {log_dir}").output)
    asked = questions("user3@example.com", group["sample_request_id"])
    table = Table("question", "flask logs", "peak MB", "jq", "times", "DuckDB on lines", "")
    good = True
    for question in asked:
        ours = best_of(REPEATS, f"{flask} {question.flask} --log-dir {log_dir}")
        jq = run(f"cat {raw_dir}/* | {question.jq}")
        lines = run(on_raw_lines(raw_dir, question))
        times = jq.seconds / ours.seconds
        fine = (
            ours.seconds <= LIMITS[0] and times >= LIMITS[1] and ours.memory_mb <= MEMORY_LIMIT_MB
        )
        good = good and fine
        table.add_row(
            question.name,
            f"{ours.seconds:.2f} s",
            f"{ours.memory_mb:.0f}",
            f"{jq.seconds:.1f} s",
            f"{times:.0f}",
            f"{lines.seconds:.1f} s",
            _mark(fine),
        )
    help_text = best_of(REPEATS, f"{flask} --help")
    fine = help_text.seconds <= HELP_LIMIT_SECONDS
    memory = f"{help_text.memory_mb:.0f}"
    table.add_row("--help", f"{help_text.seconds:.2f} s", memory, "", "", "", _mark(fine))
    console.print(table)
    return good and fine


def _mark(fine: bool) -> str:
    return "" if fine else " over the limit"


def main() -> None:
    """Make a log, archive it, ask it."""
    if shutil.which("jq") is None:
        sys.exit("jq is not installed: there is nothing to compare with")
    with tempfile.TemporaryDirectory(prefix="bench-query-") as folder:
        log_dir, raw_dir = Path(folder, "logs"), Path(folder, "raw")
        log_dir.mkdir()
        raw_dir.mkdir()
        events, live = make_log(log_dir, raw_dir)
        console.print(describe())
        archived, before, after = convert(log_dir)
        rate, ratio = before / 1e6 / archived.cpu_seconds, before / after
        fine = (
            rate >= CONVERSION_MB_PER_SECOND
            and ratio >= ARCHIVE_RATIO
            and archived.memory_mb <= ARCHIVER_MEMORY_LIMIT_MB
        )
        console.print(
            f"{events:,} events of {before / events:.0f} bytes archived at {rate:.0f} MB per"
            f" second of CPU, in {archived.memory_mb:.0f} MB of memory, to 1/{ratio:.0f} of their"
            f" bytes{_mark(fine)}; {live:,} events in a live segment of {LIVE_BYTES // MIB} MiB"
        )
        fine = measure(log_dir, raw_dir) and fine
    if not fine:
        sys.exit(1)


if __name__ == "__main__":
    main()
