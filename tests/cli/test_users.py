import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from tests.database import dispose, make_app
from tests.world import World
from webapp.cli.users import users
from webapp.errors import AuthenticationError, UserNotFoundError
from webapp.services import accounts

ADA, PASSWORD = "ada@example.com", "correct horse"

Run = Callable[..., Result]


@pytest.fixture
def cli(world: World) -> Flask:
    return world.app


@pytest.fixture
def run(cli: Flask) -> Run:
    def run(*arguments: str, typed: str | None = None) -> Result:
        return cli.test_cli_runner().invoke(args=["users", *arguments], input=typed)

    return run


@pytest.fixture
def actions(world: World) -> Callable[[], list[dict[str, Any]]]:
    return lambda: world.events(event_type="user_action")


def create(run: Run, email: str = ADA, *options: str) -> Result:
    return run("create", email, "--password-stdin", *options, typed=f"{PASSWORD}\n")


def test_an_account_made_here_can_log_in(cli: Flask, run: Run):
    result = create(run, "Ada@example.com")

    assert result.exit_code == 0
    assert result.stdout.startswith("ada@example.com is now user; id ")
    with cli.app_context():
        assert accounts.authenticate(ADA, PASSWORD).role == "user"


def test_a_prompted_password_is_asked_twice_and_not_shown(cli: Flask, run: Run):
    result = run("create", ADA, "--role", "admin", typed=f"{PASSWORD}\n{PASSWORD}\n")

    assert result.exit_code == 0
    assert PASSWORD not in result.output
    with cli.app_context():
        assert accounts.authenticate(ADA, PASSWORD).role == "admin"


def test_an_address_that_has_an_account_is_refused_before_a_password_is_asked_for(
    run: Run, actions: Callable[[], list[dict[str, Any]]]
):
    create(run)

    result = run("create", ADA.upper())

    assert result.exit_code == 1
    assert result.stderr == "Error: this e-mail address has an account already\n"
    assert "Password" not in result.output
    assert [action["outcome"] for action in actions()] == ["success", "failure"]
    assert actions()[-1]["email"] == ADA


def test_a_password_is_not_taken_from_the_command_line(run: Run):
    assert run("create", ADA, PASSWORD).exit_code == 2
    assert run("create", ADA, "--password", PASSWORD).exit_code == 2


def test_accounts_are_listed_as_json(run: Run):
    create(run, "admin@localhost", "--role", "admin")
    create(run)
    run("disable", ADA)

    result = run("list", "--format", "json")

    rows = json.loads(result.stdout)
    assert [(row["email"], row["role"], row["disabled"]) for row in rows] == [
        ("admin@localhost", "admin", False),
        (ADA, "user", True),
    ]
    assert rows[0]["created_at"].endswith("Z")
    assert run("list").stdout == result.stdout  # as on any output that is no terminal


def test_accounts_are_listed_as_a_table(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    user_id = create(run).stdout.split()[-1]
    run("disable", ADA)

    result = run("list", "--format", "table")

    (line,) = (line for line in result.stdout.splitlines() if ADA in line)
    assert line.split()[:3] == [ADA, "user", "disabled"]
    assert user_id in line  # whole, to be copied


def test_a_role_can_be_changed(cli: Flask, run: Run):
    create(run)

    assert run("set-role", ADA, "admin").stdout == f"{ADA} is now admin\n"

    with cli.app_context():
        assert accounts.get_user(ADA).role == "admin"


def test_a_new_password_ends_sessions(cli: Flask, run: Run):
    create(run)

    result = run("set-password", ADA, "--password-stdin", typed="another password\n")

    assert result.exit_code == 0
    with cli.app_context():
        user = accounts.authenticate(ADA, "another password")
        assert user.tokens_valid_after is not None


def test_a_disabled_account_is_locked_out_until_enabled(cli: Flask, run: Run):
    create(run)

    assert run("disable", ADA).exit_code == 0
    with cli.app_context(), pytest.raises(AuthenticationError):
        accounts.authenticate(ADA, PASSWORD)

    assert run("enable", ADA).exit_code == 0
    with cli.app_context():
        assert accounts.authenticate(ADA, PASSWORD)


def test_an_account_is_deleted_after_a_yes(cli: Flask, run: Run):
    create(run)

    assert run("delete", ADA, typed="n\n").exit_code == 1
    with cli.app_context():
        assert accounts.get_user(ADA)

    assert run("delete", ADA, typed="y\n").exit_code == 0
    with cli.app_context(), pytest.raises(UserNotFoundError):
        accounts.get_user(ADA)


def test_the_question_before_deleting_can_be_answered_beforehand(run: Run):
    create(run)

    assert run("delete", ADA, "--yes").stdout == f"{ADA} is deleted\n"


@pytest.mark.parametrize(
    ("arguments", "typed", "message"),
    [
        (("create", "ada", "--password-stdin"), PASSWORD, "email must be an e-mail address"),
        (("create", ADA, "--password-stdin"), "short", "password must have 8 to 1024 characters"),
        (("create", "admin@localhost", "--password-stdin"), PASSWORD, "has an account already"),
        (("set-role", ADA, "admin"), None, "there is no such user"),
        (("set-password", ADA), None, "there is no such user"),
        (("disable", "admin@localhost"), None, "the last enabled admin cannot be disabled"),
        (("delete", "admin@localhost", "--yes"), None, "the last enabled admin cannot be deleted"),
        (("set-role", "admin@localhost", "user"), None, "last enabled admin cannot be demoted"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    run: Run, arguments: tuple[str, ...], typed: str | None, message: str
):
    create(run, "admin@localhost", "--role", "admin")

    result = run(*arguments, typed=typed)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("create",), ("create", ADA, "--role", "owner"), ("set-role", ADA), ("lst",)]
)
def test_a_wrong_command_line_is_a_usage_error(run: Run, arguments: tuple[str, ...]):
    assert run(*arguments).exit_code == 2


def test_a_broken_database_is_said_in_one_line(tmp_path):
    app = make_app(f"sqlite:///{tmp_path / 'gone.db'}")
    app.cli.add_command(users)

    for arguments in (["list"], ["disable", ADA]):
        result = app.test_cli_runner().invoke(args=["users", *arguments])

        assert result.exit_code == 1
        assert result.stderr == "Error: the database failed: unable to open database file\n"
    dispose(app)


def test_every_change_is_a_user_action(cli: Flask, run: Run, actions: Any):
    create(run, "admin@localhost", "--role", "admin")
    create(run)
    with cli.app_context():
        user_id = accounts.get_user(ADA).id
    run("set-role", ADA, "admin")
    run("set-password", ADA, "--password-stdin", typed="another password\n")
    run("disable", ADA)
    run("enable", ADA)
    run("delete", ADA, "--yes")
    run("list")

    of_ada = [action for action in actions() if action["email"] == ADA]
    assert [action["action"] for action in of_ada] == [
        "create_user",
        "change_role",
        "set_password",
        "disable_user",
        "enable_user",
        "delete_user",
    ]
    assert {action["details"]["user_id"] for action in of_ada} == {user_id}
    assert {(action["outcome"], action["actor"]) for action in of_ada} == {("success", "cli")}
    assert of_ada[1]["details"]["role"] == "admin"
    assert "password" not in str([action["details"] for action in actions()])


def test_a_refused_change_is_a_failed_user_action(run: Run, actions: Any):
    create(run, "admin@localhost", "--role", "admin")

    run("disable", "admin@localhost")

    last = actions()[-1]
    assert (last["action"], last["outcome"], last["reason"]) == (
        "disable_user",
        "failure",
        "ConflictError",
    )
