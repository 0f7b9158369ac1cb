"""Programs that workers have started for them: the fork server of the judges, and the archiver."""

import io
import os
import signal
import time
from pathlib import Path

import requests

from tests.estimators import dumped, iris_pipeline
from tests.process.server import Server, running
from tests.processes import GONE_SECONDS, children, wait_until_gone

SEGMENT_BYTES = 64 * 2**10


def upload(server: Server, token: str, name: str) -> requests.Response:
    return server.call(
        "POST",
        "models/upload",
        token,
        files={"file": io.BytesIO(dumped(iris_pipeline))},
        data={"name": name},
    )


def fill_log(server: Server, segments: int = 1) -> None:
    """Make requests until the log has rotated so many times more."""
    before = closed(server)
    while len(closed(server) - before) < segments:
        for _ in range(20):
            requests.get(f"{server.base_url}/api/v1/nothing/here", timeout=10)


def closed(server: Server) -> set[str]:
    return {path.stem for path in server.log_dir.rglob("app-*")}


def wait_until_archived(server: Server) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while list(server.log_dir.glob("app-*.jsonl")) or not list(server.log_dir.rglob("*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until_gone({pid})


def everything(server: Server) -> set[int]:
    """All processes of a server."""
    launcher = server.launcher_pid()
    return {launcher, *children(launcher), *server.worker_pids()}


def test_a_killed_fork_server_is_started_again_for_any_worker(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        token = server.login()
        for number in range(3):
            (judge,) = server.judge_pids()
            kill(judge)
            assert upload(server, token, f"iris-{number}").status_code == 201
        assert server.events(level="WARNING", logger="webapp.launcher") == []


def test_the_log_is_archived_as_it_rotates_and_nobody_stays(tmp_path: Path) -> None:
    with running(tmp_path, workers=2, log_segment_bytes=SEGMENT_BYTES) as server:
        launcher = server.launcher_pid()
        fill_log(server, 3)
        wait_until_archived(server)
        wait_until_gone(children(launcher) - server.judge_pids())
        processes = everything(server)
    wait_until_gone(processes)
    assert server.output.read_text() == ""


def test_workers_make_room_for_one_that_brings_the_launcher(tmp_path: Path) -> None:
    # Nothing is compiled, which would ask the judges too.
    chosen = {"log_segment_bytes": SEGMENT_BYTES, "engine": "sklearn"}
    with running(tmp_path, workers=1, **chosen) as server:
        token = server.login()
        (worker,) = server.worker_pids()
        (judge,) = server.judge_pids()
        kill(server.launcher_pid())
        assert upload(server, token, "first").status_code == 201, "the judges live"
        kill_orphan(judge)
        refused = upload(server, token, "second")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        wait_until_gone({worker})
        server.wait_until_ready()
        assert upload(server, token, "second").status_code == 201
        (warned,) = server.events(level="WARNING", logger="webapp.launcher")
        assert warned["pid"] == worker

        kill(server.launcher_pid())
        (worker,) = server.worker_pids()
        fill_log(server)
        wait_until_gone({worker})
        server.wait_until_ready()
        wait_until_archived(server)


def kill_orphan(pid: int) -> None:
    """Kill a process whose parent is gone, which nobody may reap here."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + GONE_SECONDS
    while not is_dead(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_dead(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def test_a_reload_takes_new_settings_of_the_archive(tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as server:
        before = server.launcher_pid(), server.judge_pids()
        server.reload()
        assert (server.launcher_pid(), server.judge_pids()) == before
        (server.instance_path / "settings.toml").write_text(
            f"log_retention_days = 7\nlog_segment_bytes = {SEGMENT_BYTES}\n"
        )
        server.reload()
        command = Path(f"/proc/{server.launcher_pid()}/cmdline").read_text()
        assert '"--retention-days", "7"' in command
        wait_until_gone({before[0]})
        fill_log(server)
        wait_until_archived(server)
        assert upload(server, server.login(), "iris").status_code == 201


def test_none_outlives_a_killed_master(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        processes = everything(server)
        server._master.kill()
        deadline = time.monotonic() + GONE_SECONDS
        while not all(map(is_dead, processes)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
