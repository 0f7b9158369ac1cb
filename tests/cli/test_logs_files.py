"""``flask logs`` on the log as files: tail, verify, archive, prune, export."""

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from tests.cli.terminal import FLASK, run
from tests.log_lines import START, Event, Process, traffic, write_log
from webapp.cli.logs import logs
from webapp.logstore.archive import archive_lock
from webapp.logstore.reader import LogReader

SEGMENT = "app-20261123T090000.000000Z-1.jsonl"


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of the machine out of it."""
    monkeypatch.setenv("PELLUCID_INSTANCE_PATH", str(tmp_path / "instance"))


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    """A closed segment and an active file of the same process."""
    folder = tmp_path / "logs"
    process = Process()
    events = [process.event(START + timedelta(seconds=n), rows=n) for n in range(20)]
    write_log(folder / SEGMENT, events[:15])
    write_log(folder / "app.log", events[15:])
    return folder


def invoke(log_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(logs, [*arguments, "--log-dir", str(log_dir)])


def rows(result: Result) -> list[Event]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def actions(log_dir: Path) -> list[Event]:
    return LogReader(log_dir).events("event_type = 'user_action'")


def test_tail_shows_the_newest(log_dir: Path) -> None:
    assert [event["rows"] for event in rows(invoke(log_dir, "tail", "-n", "7"))] == [*range(13, 20)]


def test_tail_shows_what_is_no_event_as_it_is(log_dir: Path) -> None:
    with (log_dir / "app.log").open("ab") as file:
        file.write(b"Segmentation \x1b[31mfault\n")
    assert rows(invoke(log_dir, "tail", "-n", "1")) == [{"raw": "Segmentation \x1b[31mfault"}]
    table = invoke(log_dir, "tail", "-n", "1", "--format", "table").stdout
    assert "Segmentation \\u001b[31mfault" in table


@pytest.fixture
def follower(log_dir: Path) -> Iterator[subprocess.Popen[str]]:
    command = [*FLASK, "logs", "tail", "-f", "-n", "1", "--log-dir", str(log_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        yield p
        p.kill()


def test_tail_follows_across_a_rotation(log_dir: Path, follower: subprocess.Popen[str]) -> None:
    def told() -> int:
        assert follower.stdout
        return int(json.loads(follower.stdout.readline())["rows"])

    assert told() == 19
    process = Process(pid=2)
    write_log(log_dir / "app.log", [process.event(START, rows=100)], "ab")
    assert told() == 100
    write_log(log_dir / "app.log", [process.event(START, rows=101)], "ab")
    (log_dir / "app.log").rename(log_dir / "app-20261123T100000.000000Z-1.jsonl")
    write_log(log_dir / "app.log", [process.event(START, rows=102)], "ab")
    assert [told(), told()] == [101, 102]
    follower.send_signal(signal.SIGINT)
    assert follower.wait(30) == 0
    assert follower.stderr
    assert follower.stderr.read() == ""


def test_verify_accepts_a_whole_log(log_dir: Path) -> None:
    found = rows(invoke(log_dir, "verify"))
    assert [row["kind"] for row in found] == ["segment", "active", "process"]


def test_verify_fails_when_lines_are_missing(log_dir: Path) -> None:
    lines = (log_dir / SEGMENT).read_bytes().splitlines(keepends=True)
    (log_dir / SEGMENT).write_bytes(b"".join(lines[:4] + lines[6:]))
    result = invoke(log_dir, "verify")
    assert result.exit_code == 1
    assert "missing seq 5-6" in result.stdout
    assert "2 lines are missing, 0 lines are no events" in result.stderr


def test_archive_converts_and_says_who_did_it(log_dir: Path) -> None:
    (row,) = rows(invoke(log_dir, "archive"))
    assert (row["segment"], row["events"], row["invalid_lines"]) == (SEGMENT, 15, 0)
    (action,) = actions(log_dir)
    assert (action["action"], action["actor"]) == ("archive_log", "cli")
    assert action["details"] == {"segments": 1}
    assert len(LogReader(log_dir).events("message = 'Worker ready'")) == 20


def test_nothing_to_archive_writes_nothing(log_dir: Path) -> None:
    (log_dir / SEGMENT).unlink()
    assert rows(invoke(log_dir, "archive")) == []
    assert actions(log_dir) == []


def test_archiving_goes_on_when_another_process_is_done(log_dir: Path) -> None:
    command = [*FLASK, "logs", "archive", "--log-dir", str(log_dir)]
    with archive_lock(log_dir):
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE)
        time.sleep(1.0)
        assert waiting.poll() is None
        assert (log_dir / SEGMENT).exists()
    assert SEGMENT.encode() in waiting.communicate(timeout=60)[0]


@pytest.mark.parametrize("command", ["archive", "prune"])
def test_a_missing_folder_is_not_made(command: str, tmp_path: Path) -> None:
    result = invoke(tmp_path / "missing", command)
    assert result.exit_code == 0
    assert "there is no folder" in result.stderr
    assert not (tmp_path / "missing").exists()


def test_prune_deletes_and_says_who_did_it(log_dir: Path) -> None:
    write_log(log_dir / "app.log", [Process(pid=5).event(datetime.now(UTC))], "ab")
    os.utime(log_dir / SEGMENT, (0, 0))
    told = rows(invoke(log_dir, "prune", "--dry-run"))
    assert (log_dir / SEGMENT).exists()
    assert actions(log_dir) == []
    assert rows(invoke(log_dir, "prune")) == told
    assert told[0]["path"] == str(log_dir / SEGMENT)
    assert not (log_dir / SEGMENT).exists()
    (action,) = actions(log_dir)
    assert (action["action"], action["actor"]) == ("prune_log", "cli")
    assert action["details"]["files"] == 1


def test_prune_takes_its_limits_from_the_settings(
    log_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELLUCID_LOG_MAX_BYTES", "1")
    assert len(rows(invoke(log_dir, "prune", "--dry-run"))) == 1
    monkeypatch.setenv("PELLUCID_LOG_MAX_BYTES", "plenty")
    result = invoke(log_dir, "prune")
    assert result.exit_code == 2
    assert "PELLUCID_LOG_MAX_BYTES must be a number of bytes" in result.stderr


def test_managing_the_log_makes_no_secret(log_dir: Path, tmp_path: Path) -> None:
    invoke(log_dir, "archive")
    assert not (tmp_path / "instance").exists()


@pytest.fixture(scope="module")
def busy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with an archive, a closed segment and an active file."""
    folder = tmp_path_factory.mktemp("logs")
    events = list(traffic(400))
    for n, part in enumerate((events[:400], events[400:700]), 1):
        write_log(folder / f"app-20261123T09000{n}.000000Z-1.jsonl", part)
        if n == 1:
            invoke(folder, "archive")
    (folder / "app.log").unlink()  # the archiver's own line
    write_log(folder / "app.log", events[700:])
    return folder


def test_jsonl_is_exported_as_it_was_written(busy_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "events.jsonl"
    result = invoke(busy_dir, "export", "-o", str(target))
    assert result.exit_code == 0, result.output
    exported = [json.loads(line) for line in target.read_text().splitlines()]
    written = list(traffic(400))
    by_number = itemgetter("pid", "seq")
    assert sorted(exported, key=by_number) == sorted(written, key=by_number)
    assert f"{len(written)} events in {target}" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]


def test_csv_and_parquet_hold_the_same_events(busy_dir: Path, tmp_path: Path) -> None:
    chosen = ("level>=warning", "--until", "2026-11-23T08:00:15Z")
    for form in ("csv", "parquet"):
        invoke(busy_dir, "export", *chosen, "--format", form, "-o", str(tmp_path / f"e.{form}"))
    with (tmp_path / "e.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    sql = f"SELECT request_id, event_type, duration FROM '{tmp_path}/e.parquet'"
    stored = duckdb.execute(sql).fetchall()
    expected = [
        (e["request_id"], e["event_type"], e.get("duration"))
        for e in traffic(400)
        if e["level"] != "INFO" and e["timestamp"] < "2026-11-23T08:00:15"
    ]
    assert sorted(stored, key=str) == sorted(expected, key=str)
    in_csv = [(r["request_id"], r["event_type"], float(r["duration"] or -1)) for r in table]
    assert sorted(in_csv) == sorted((i, t, -1 if d is None else d) for i, t, d in expected)


def test_an_export_can_go_through_a_pipe(busy_dir: Path) -> None:
    found = rows(invoke(busy_dir, "export", "event_type=request_failed"))
    assert found
    assert {event["event_type"] for event in found} == {"request_failed"}


def test_an_export_that_fails_leaves_nothing_behind(busy_dir: Path, tmp_path: Path) -> None:
    result = invoke(busy_dir, "export", "-o", str(tmp_path / "missing" / "events.jsonl"))
    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_sees_how_far_an_export_is(busy_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "events.jsonl"
    output, status = run("logs", "export", "-o", target, "--log-dir", busy_dir)
    assert status == 0
    assert "exporting" in output
    assert str(len(list(traffic(400)))) in output


def test_archiving_shows_a_bar_on_a_terminal_alone(log_dir: Path) -> None:
    output, status = run("logs", "archive", "--log-dir", log_dir)
    assert status == 0
    assert "archiving" in output
    assert invoke(log_dir, "archive").stderr == ""
