"""The archiver is killed at every step it takes on the disk; no event is lost or met twice."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.log_lines import Process, write_log
from webapp.logstore.archive import archive_lock, archive_segments
from webapp.logstore.reader import LogReader

MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
LINES = 40
# Counts what the archiver does to files of the log, and dies before the step that is named.
# Each order is obeyed by a forked child: starting Python anew for each would take half a minute.
ARCHIVERS = """
import os, signal, sys
from webapp.logstore import archive, retention

ACTIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "open", "shutil.rmtree"}
steps = 0

def archive_until(log_dir, die_at):
    def count(event, args):
        global steps
        if event in ACTIONS and str(log_dir) in str(args[0]):
            steps += 1
            if steps == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    with archive.archive_lock(log_dir):
        archive.archive_segments(log_dir)
        retention.prune(log_dir, 10**6, 10**15)

for order in sys.stdin:
    step, _, folder = order.strip().partition(" ")
    child = os.fork()
    if child == 0:
        archive_until(archive.Path(folder), int(step))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def killed_at() -> Iterator[Callable[[Path, int], bool]]:
    """Archive a folder and be killed before some step; False if there are fewer steps."""
    command = [sys.executable, "-c", ARCHIVERS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as archivers:

        def run(log_dir: Path, step: int) -> bool:
            assert archivers.stdin
            assert archivers.stdout
            archivers.stdin.write(f"{step} {log_dir}\n")
            archivers.stdin.flush()
            status = int(archivers.stdout.readline())
            assert status in (0, -signal.SIGKILL)
            return status != 0

        yield run
        archivers.communicate()


def events(log_dir: Path) -> list[int]:
    return [seq for (seq,) in LogReader(log_dir).rows("SELECT seq FROM events ORDER BY seq")]


def fresh_logs(tmp_path: Path) -> Iterator[Path]:
    """Make folders with two closed segments, one of them of two days, and an active file."""
    for number in range(200):
        log_dir = tmp_path / str(number)
        process = Process()
        lines = [process.event(MIDNIGHT + timedelta(seconds=n - 10)) for n in range(LINES)]
        write_log(log_dir / "app-20261124T000010.000000Z-1.jsonl", lines[:20])
        write_log(log_dir / "app-20261124T000020.000000Z-1.jsonl", lines[20:30])
        write_log(log_dir / "app.log", lines[30:])
        yield log_dir


def test_an_event_is_in_one_place_whenever_the_archiver_is_killed(
    tmp_path: Path, killed_at: Callable[[Path, int], bool]
) -> None:
    whole = list(range(1, LINES + 1))
    for step, log_dir in enumerate(fresh_logs(tmp_path), 1):
        if not killed_at(log_dir, step):
            break
        assert events(log_dir) == whole, f"after step {step}"
        with archive_lock(log_dir):
            archive_segments(log_dir)
        assert events(log_dir) == whole, f"repaired after step {step}"
        assert list(log_dir.glob("*.jsonl")) == []
        assert not (log_dir / "archive" / ".work").exists()
    # Fewer would say that the steps are not counted any more.
    assert step > 15


def test_a_repair_can_be_killed_as_well(
    tmp_path: Path, killed_at: Callable[[Path, int], bool]
) -> None:
    whole = list(range(1, LINES + 1))
    log_dir = next(fresh_logs(tmp_path))
    # Each process gets a little further than the last one did.
    for step in range(2, 60):
        killed = killed_at(log_dir, step)
        assert events(log_dir) == whole, f"after step {step}"
        if not killed:
            break
    assert list(log_dir.glob("*.jsonl")) == []
