"""``flask logs``: questions, formats, exit statuses."""

import csv
import io
import json
import os
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.cli.terminal import FLASK, run
from tests.log_lines import LOGIN, START, Event, Process, failure, to_line, write_log
from webapp.cli.logs import logs

Ask = Callable[..., Result]
EVIL = "red \x1b[31m\x9b2J text \u202e turned\x07"
ASKED_OFTEN = (
    "search",
    "slow",
    "errors",
    "logins",
    "predictions",
    "unfinished",
    "levels",
    "endpoints",
    "users",
    "models",
    "queries",
    "stats",
    "verify",
    "tail",
)


def story() -> list[Event]:
    """A login, a prediction that failed with its SQL and traceback, and one that got lost."""
    process = Process()
    login = {"action": "login", "outcome": "failure", "email": "ann@example.com", "reason": EVIL}
    asked = {"model_id": "m-1", "model_name": "iris", "model_version": 2, "rows": 3}
    broken = {"action": "make_prediction", "outcome": "failure", "reason": "failed", **asked}
    query = {"query": "SELECT * FROM users WHERE id = ?", "duration": 0.7, "level": "WARNING"}
    what = failure("ValueError", "f1", "bad split")
    return [
        *process.request(
            route=LOGIN, status=401, request_id="login-0001", between=[("user_action", login)]
        ),
        *process.request(
            START + timedelta(minutes=1),
            status=500,
            request_id="failed-0001",
            user_id="ann",
            duration=1.5,
            between=[
                ("slow_query", query),
                ("prediction", broken | {"level": "WARNING"}),
                ("operation_failed", {"level": "ERROR", "operation": "predict"} | what),
            ],
            **what,
        ),
        *process.request(START + timedelta(minutes=2), request_id="lost-0001")[:1],
    ]


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    write_log(folder / "app.log", story())
    return folder


@pytest.fixture
def ask(log_dir: Path) -> Ask:
    def ask(*arguments: str) -> Result:
        return CliRunner().invoke(logs, [*arguments, "--log-dir", str(log_dir)])

    return ask


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("command", ASKED_OFTEN)
def test_a_pipe_gets_one_object_a_line(ask: Ask, command: str) -> None:
    found = rows(ask(command))
    assert found
    assert all(isinstance(row, dict) for row in found)


@pytest.mark.parametrize("command", [c for c in ASKED_OFTEN if c != "tail"])
def test_every_format_holds_the_same_rows(ask: Ask, command: str) -> None:
    expected = rows(ask(command))
    assert json.loads(ask(command, "--format", "json").stdout) == expected
    table = list(csv.reader(io.StringIO(ask(command, "--format", "csv").stdout)))
    assert len(table) == len(expected) + 1
    if command != "search":
        assert table[0] == list(expected[0])
    assert ask(command, "--format", "table").stdout.strip()


@pytest.mark.parametrize("command", [["search", "--limit", "0"], ["export"]], ids=str)
def test_a_csv_of_events_has_every_field(command: list[str], tmp_path: Path) -> None:
    process = Process()
    events = [process.event(START), process.event(START, duration=0.5, colour="red", n=[1])]
    write_log(tmp_path / "app.log", events)
    arguments = [*command, "--format", "csv", "--log-dir", str(tmp_path)]
    plain, strange = csv.DictReader(io.StringIO(CliRunner().invoke(logs, arguments).stdout))
    assert (plain["duration"], plain["extra"]) == ("", "")
    assert strange["duration"] == "0.5"
    assert json.loads(strange["extra"]) == {"colour": "red", "n": [1]}


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "table"])
def test_nothing_found_is_no_error(form: str, tmp_path: Path) -> None:
    arguments = ["errors", "--format", form, "--fail-if-found", "--log-dir", str(tmp_path)]
    result = CliRunner().invoke(logs, arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == ("[]\n" if form == "json" else "")


def test_a_missing_folder_is_told_and_no_error(tmp_path: Path) -> None:
    folder = str(tmp_path / "nowhere")
    result = CliRunner().invoke(logs, ["levels", "--log-dir", folder])
    assert (result.exit_code, result.stdout) == (0, "")
    assert folder in result.stderr


def test_a_file_in_place_of_the_folder_is_a_wrong_command(tmp_path: Path) -> None:
    (tmp_path / "app.log").touch()
    result = CliRunner().invoke(logs, ["levels", "--log-dir", str(tmp_path / "app.log")])
    assert result.exit_code == 2
    assert "app.log is not a folder" in result.stderr


@pytest.mark.parametrize("command", ["levels", "request", "tail"])
def test_a_log_of_somebody_else_cannot_be_read(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str = "r") -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, who may read anything
    own = ["request-0001"] if command == "request" else []
    result = CliRunner().invoke(logs, [command, *own, "--log-dir", str(tmp_path)])
    assert result.exit_code == 3
    assert result.stderr == f"the log cannot be read: {tmp_path}/app.log: Permission denied\n"


def test_a_log_behind_links_is_read(tmp_path: Path) -> None:
    write_log(tmp_path / "disk" / "app-20261123T090000.000000Z-1.jsonl", story()[:3])
    (tmp_path / "large").mkdir()
    (tmp_path / "disk" / "archive").symlink_to(tmp_path / "large")
    (tmp_path / "logs").symlink_to(tmp_path / "disk")
    where = ["--log-dir", str(tmp_path / "logs")]
    assert CliRunner().invoke(logs, ["archive", *where]).exit_code == 0
    assert list((tmp_path / "large").glob("*/*.parquet"))
    result = CliRunner().invoke(logs, ["search", "event_type!=log", "logger!~events", *where])
    assert len(rows(result)) == 3


def test_an_alarm_goes_off_when_something_is_found(ask: Ask) -> None:
    assert ask("errors", "--fail-if-found").exit_code == 1
    assert ask("errors", "--fail-if-found", "--since", "2026-11-24").exit_code == 0


def test_search_gives_the_lines_as_they_were_written(ask: Ask) -> None:
    assert rows(ask("search", "--limit", "0")) == story()
    newest = [event["seq"] for event in rows(ask("search", "--limit", "2"))]
    assert newest == [8, 9]


def test_search_knows_the_user_and_the_request(ask: Ask) -> None:
    found = rows(ask("search", "--user", "ann", "level>=error"))
    assert {event["request_id"] for event in found} == {"failed-0001"}
    assert len(rows(ask("search", "--request", "login-0001"))) == 3


def test_a_window_limits_the_question(ask: Ask) -> None:
    window = ("--since", "2026-11-23T08:01:00Z", "--until", "2026-11-23T08:02:00Z")
    assert {event["request_id"] for event in rows(ask("search", *window))} == {"failed-0001"}


def test_the_failure_counts_once_and_names_a_request(ask: Ask) -> None:
    (group,) = rows(ask("errors"))
    assert (group["count"], group["fingerprint"]) == (1, "f1")
    assert group["sample_request_id"] == "failed-0001"


def test_failed_logins_of_an_address_are_found(ask: Ask) -> None:
    (login,) = rows(ask("logins", "--email", "ann@example.com", "--failed"))
    assert login["request_id"] == "login-0001"


def test_the_request_that_got_lost_is_found(ask: Ask) -> None:
    assert [row["request_id"] for row in rows(ask("unfinished"))] == ["lost-0001"]


def test_one_request_can_be_told_to_a_program(ask: Ask) -> None:
    events = rows(ask("request", "failed-0001"))
    assert events == [event for event in story() if event["request_id"] == "failed-0001"]


def test_one_request_is_told_as_a_story(ask: Ask) -> None:
    text = ask("request", "failed-0001", "--format", "table").stdout
    assert text.count("Traceback (most recent call last)") == 1
    order = ["POST /api/v1/predictions/predict", "Request started", "SELECT * FROM users", "iris"]
    positions = [text.index(part) for part in [*order[:3], "ValueError: bad split"]]
    assert positions == sorted(positions)
    assert "status_code 500" in text
    assert "+1.500 s" in text


def test_a_request_that_never_completed_says_so(ask: Ask) -> None:
    assert "never completed" in ask("request", "lost-0001", "--format", "table").stdout


def test_an_unknown_request_is_told(ask: Ask) -> None:
    result = ask("request", "nobody-0001")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no line carries the request id nobody-0001" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "levl=error"], "nearest: level"),
        (["search", "duration>fast"], "a number"),
        (["errors", "--since", "soon"], "write 15m, 2h, 7d"),
        (["errors", "--since", "0001-01-01T00:00:00+14:00"], "write 15m, 2h, 7d"),
        (["search", "timestamp>0001-01-01T00:00:00+14:00"], "out of range"),
        (["search", f"pid>{'9' * 400}"], "out of range"),
        (["search", "extra.a..b=1"], "empty part"),
        (["errors", "--since", "1h", "--until", "2h"], "the window is empty"),
        (["errors", "--format", "yaml"], "'table', 'json', 'jsonl', 'csv'"),
        (["errors", "--limit", "-1"], "x>=0"),
        (["sql", "SELEC 1"], "syntax error"),
        (["sql", "SELECT nothing FROM events"], '"nothing" not found'),
        (["export", "--format", "parquet"], "--output events.parquet"),
        (["export", "levl=error"], "nearest: level"),
    ],
)
def test_a_wrong_command_is_a_usage_error(ask: Ask, arguments: list[str], message: str) -> None:
    result = ask(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_damaged_archive_is_named_and_is_no_usage_error(tmp_path: Path) -> None:
    folder = tmp_path / "archive" / "date=2026-11-23"
    folder.mkdir(parents=True)
    (folder / "damaged.parquet").write_bytes(b"half a file")
    result = CliRunner().invoke(logs, ["levels", "--log-dir", str(tmp_path)])
    assert result.exit_code == 3
    assert "damaged.parquet" in result.stderr


def test_sql_answers_with_its_own_columns(ask: Ask) -> None:
    sql = "SELECT level, count(*) AS n, max(timestamp) AS last FROM events GROUP BY 1 ORDER BY 1"
    first = rows(ask("sql", sql))[0]
    assert first == {"level": "ERROR", "n": 2, "last": "2026-11-23T08:01:01.500000Z"}


def test_sql_on_a_terminal_is_a_table_whatever_the_columns(ask: Ask) -> None:
    sql = "SELECT event_type, count(*) AS n FROM events WHERE level = 'ERROR' GROUP BY 1 ORDER BY 1"
    table = ask("sql", sql, "--format", "table").stdout.splitlines()
    assert [line.split() for line in table] == [
        ["event_type", "n"],
        ["operation_failed", "1"],
        ["request_failed", "1"],
    ]


def test_sql_can_answer_what_json_hardly_can(ask: Ask) -> None:
    sql = "SELECT 1 AS a, 2 AS a, 'nan'::DOUBLE AS x, sum(9223372036854775807) AS big FROM events"
    assert rows(ask("sql", sql)) == [{"a": 1, "a_1": 2, "x": None, "big": str(9 * (2**63 - 1))}]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{log_dir}/new.csv'",
        "ATTACH '{log_dir}/new.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CREATE TABLE x AS SELECT 1",
        "SET memory_limit = '1TB'",
        "SELECT 1; SELECT 2",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{log_dir}/new.csv'",
        "EXPORT DATABASE '{log_dir}/new'",
        "CALL enable_logging()",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('{log_dir}/../outside.csv')",
        "SELECT * FROM glob('/etc/*')",
    ],
)
def test_sql_can_only_read_and_only_the_log(ask: Ask, log_dir: Path, sql: str) -> None:
    (log_dir.parent / "outside.csv").write_text("a\n1\n")
    before = sorted(log_dir.rglob("*"))
    result = ask("sql", sql.format(log_dir=log_dir))
    assert result.exit_code == 2, result.stdout
    assert sorted(log_dir.rglob("*")) == before


@pytest.mark.parametrize("command", [*ASKED_OFTEN, "sql", "request"])
def test_reading_writes_nothing(ask: Ask, log_dir: Path, command: str) -> None:
    before = {path: path.read_bytes() for path in log_dir.rglob("*")}
    ask(command, *{"sql": ["SELECT 1"], "request": ["login-0001"]}.get(command, []))
    assert {path: path.read_bytes() for path in log_dir.rglob("*")} == before


def test_the_help_tells_how_to_find_a_failure(ask: Ask) -> None:
    text = CliRunner().invoke(logs, ["--help"]).stdout
    assert "flask logs search --user ID --since 1d 'level>=error'" in text
    assert "flask logs request REQUEST_ID" in text
    for command in logs.commands:
        assert f"  {command} " in text


def test_a_terminal_gets_a_table_without_colour_if_it_wants_none(log_dir: Path) -> None:
    output, status = run("logs", "errors", "--log-dir", log_dir, NO_COLOR="1")
    assert status == 0
    assert output.splitlines()[0].split()[:2] == ["fingerprint", "exception_type"]
    assert "\x1b" not in output


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("question", ["errors", "slow", "predictions", "queries", "models"])
def test_an_id_can_be_copied_from_a_terminal_of_any_width(
    log_dir: Path, question: str, columns: int
) -> None:
    arguments = ["logs", question, "--log-dir", log_dir, "--format"]
    shown, _ = run(*arguments, "table", NO_COLOR="1", COLUMNS=str(columns))
    answered, _ = run(*arguments, "jsonl")
    rows = [json.loads(line) for line in answered.splitlines()]
    ids = {value for row in rows for name, value in row.items() if name.endswith("_id") and value}
    assert ids
    assert ids <= set(shown.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "--request", "login-0001"],
        ["search", "--request", "login-0001", "--format", "jsonl"],
        ["logins"],
        ["logins", "--format", "csv"],
        ["request", "login-0001"],
        ["tail", "-n", "20"],
    ],
    ids=" ".join,
)
def test_a_line_of_the_log_cannot_drive_a_terminal(log_dir: Path, arguments: list[str]) -> None:
    output, status = run("logs", *arguments, "--log-dir", log_dir, NO_COLOR="1")
    assert status == 0
    assert "\\u001b[31m\\u009b2J text \\u202e turned\\u0007" in output
    assert not set(output) & set("\x1b\x9b\u202e\x07")


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", (Process(seq=n).event(START) for n in range(5000)))
    command = " ".join([*FLASK, "logs", "search", "--limit", "0", "--log-dir", str(tmp_path)])
    done = subprocess.run(
        f"{command} | head -n 1", shell=True, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["seq"] == 1
    assert done.stderr == ""


def test_the_log_answers_without_an_app_a_database_or_right_settings(tmp_path: Path) -> None:
    write_log(tmp_path / "elsewhere" / "app.log", story())
    (tmp_path / "wsgi.py").write_text("raise RuntimeError('the app cannot start')\n")
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "settings.toml").write_text("workers = 'many'\n[broken\n")
    environ = {"PELLUCID_LOG_DIR": "elsewhere", "PELLUCID_THREADS": "none"}
    done = subprocess.run(
        [*FLASK, "logs", "levels"],
        cwd=tmp_path,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=True,
    )
    levels = {row["level"]: row["count"] for row in map(json.loads, done.stdout.splitlines())}
    assert sum(levels.values()) == len(story())
    assert sorted(path.name for path in (tmp_path / "instance").iterdir()) == ["settings.toml"]


def test_lines_that_are_no_events_do_not_disturb(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", story())
    with (tmp_path / "app.log").open("ab") as file:
        file.write(b"garbage\n" + to_line(Process(pid=2).event(START)) + b'{"torn": ')
    result = CliRunner().invoke(logs, ["search", "--limit", "0", "--log-dir", str(tmp_path)])
    assert len(rows(result)) == len(story()) + 1
