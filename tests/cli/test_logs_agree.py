"""The same answers from ``flask logs``, from jq on the lines, and from DuckDB on the archive."""

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from tests.log_lines import traffic, write_log
from webapp.cli.logs import logs

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
SINCE, UNTIL = "2026-11-23T08:00:20.000000Z", "2026-11-23T08:00:40.000000Z"


class Log:
    """One log as lines, as the archive made of them, and as both."""

    def __init__(self, folder: Path) -> None:
        self.events = list(traffic(1500))
        half = len(self.events) // 2
        self.lines = write_log(folder / "lines" / "app.log", self.events)
        segment = "app-20261123T090000.000000Z-1.jsonl"
        write_log(folder / "archive" / segment, self.events)
        write_log(folder / "both" / segment, self.events[:half])
        write_log(folder / "both" / "app.log", self.events[half:])
        for name in ("archive", "both"):
            result = CliRunner().invoke(logs, ["archive", "--log-dir", str(folder / name)])
            assert result.exit_code == 0, result.output
        (folder / "archive" / "app.log").unlink()  # the archiver's own line
        self.folders = [folder / name for name in ("lines", "archive", "both")]
        self.parquet = folder / "archive" / "archive" / "*" / "*.parquet"

    def jq(self, program: str) -> list[Any]:
        """Run jq on the raw lines, all of them as one array."""
        done = subprocess.run(
            ["jq", "-sc", program, str(self.lines)], capture_output=True, text=True, check=True
        )
        return list(json.loads(done.stdout))

    def flask(self, *arguments: str) -> list[list[dict[str, Any]]]:
        """Ask lines, archive and both."""
        answers = []
        for folder in self.folders:
            result = CliRunner().invoke(
                logs, [*arguments, "--limit", "0", "--log-dir", str(folder)]
            )
            assert result.exit_code == 0, result.output
            rows = [json.loads(line) for line in result.stdout.splitlines()]
            answers.append([row for row in rows if row.get("action") != "archive_log"])
        return answers

    def sql(self, columns: str, condition: str) -> list[tuple[Any, ...]]:
        """Ask the archive, without any of our code."""
        table = f"read_parquet('{self.parquet}')"
        return duckdb.execute(f"SELECT {columns} FROM {table} WHERE {condition}").fetchall()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(tmp_path_factory.mktemp("agree"))


def keys(rows: list[Any]) -> Counter[tuple[int, int]]:
    """Tell which lines were found: a process and its number."""
    return Counter((row["pid"], row["seq"]) if isinstance(row, dict) else row for row in rows)


@pytest.mark.parametrize(
    ("arguments", "jq", "sql"),
    [
        (["level=error"], '.level == "ERROR"', "level = 'ERROR'"),
        (["--user", "{user}"], '.user_id == "{user}"', "user_id = '{user}'"),
        (["--request", "{request}"], '.request_id == "{request}"', "request_id = '{request}'"),
        (
            ["--since", SINCE, "--until", UNTIL],
            f'.timestamp >= "{SINCE}" and .timestamp < "{UNTIL}"',
            f"timestamp >= '{SINCE[:-1]}' AND timestamp < '{UNTIL[:-1]}'",
        ),
        (
            ["event_type=prediction", "outcome=failure"],
            '.event_type == "prediction" and .outcome == "failure"',
            "event_type = 'prediction' AND outcome = 'failure'",
        ),
        (["duration>1"], ".duration != null and .duration > 1", "duration > 1"),
    ],
    ids=["level", "user", "request", "time", "prediction errors", "duration"],
)
def test_a_search_finds_the_same_lines(log: Log, arguments: list[str], jq: str, sql: str) -> None:
    sample = next(event for event in log.events if event.get("error") == "PredictionError")
    names = {"user": sample["user_id"], "request": sample["request_id"]}

    def fill(text: str) -> str:
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    expected = keys(log.jq(f"map(select({fill(jq)}))"))
    assert len(expected) > 0
    assert keys(log.sql("pid, seq", fill(sql))) == expected
    for found in log.flask("search", *map(fill, arguments)):
        assert keys(found) == expected


def test_levels_are_counted_alike(log: Log) -> None:
    counts = log.jq("group_by(.level) | map({level: .[0].level, count: length})")
    expected = {row["level"]: row["count"] for row in counts}
    assert dict(log.sql("level, count(*)", "true GROUP BY level")) == expected
    lines, archive, both = (
        {row["level"]: row["count"] for row in rows} for rows in log.flask("levels")
    )
    assert lines == archive == expected
    # The archiver's own line is in that log.
    assert both == expected | {"INFO": expected["INFO"] + 1}


def test_the_slowest_requests_are_the_same(log: Log) -> None:
    program = """
        map(select(.event_type == "request_completed" or .event_type == "request_failed")
            | select(.internal != true)) | sort_by(-.duration) | map(.request_id) | .[0:20]
    """
    expected = log.jq(program)
    ends = "event_type IN ('request_completed', 'request_failed') AND internal IS NOT TRUE"
    found = log.sql("request_id", f"{ends} ORDER BY duration DESC LIMIT 20")
    assert [request_id for (request_id,) in found] == expected
    for rows in log.flask("slow"):
        assert [row["request_id"] for row in rows[:20]] == expected


def test_login_attempts_of_an_address_are_the_same(log: Log) -> None:
    email = next(
        event["email"]
        for event in log.events
        if event.get("outcome") == "failure" and "email" in event
    )
    expected = log.jq(
        f'map(select(.action == "login" and .email == "{email}")) | map([.timestamp, .outcome])'
    )
    columns = "strftime(timestamp, '%Y-%m-%dT%H:%M:%S.%fZ'), outcome"
    condition = f"action = 'login' AND email = '{email}' ORDER BY timestamp"
    assert [list(row) for row in log.sql(columns, condition)] == expected
    for rows in log.flask("logins", "--email", email):
        assert [[row["timestamp"], row["outcome"]] for row in rows] == expected
