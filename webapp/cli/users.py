"""``flask users``: accounts, from the terminal."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any

import click
from flask.cli import AppGroup
from rich import box
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from webapp.cli.failures import clear_errors
from webapp.db.tables import ROLES, User
from webapp.errors import AppError
from webapp.events.actions import record_action
from webapp.parts import parts
from webapp.services import accounts

users = AppGroup("users", help="Create, list and change accounts.")

_email = click.argument("email")
_role = click.Choice(ROLES)
_password_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input, not a prompt."
)


@users.command("create")
@_email
@click.option("--role", type=_role, default="user", show_default=True)
@_password_stdin
def create(email: str, role: str, password_stdin: bool) -> None:
    """Create an account for EMAIL."""
    with _recorded("create_user", email, role=role) as details:
        accounts.check_is_free(email)  # asked before a password is typed twice
        user = accounts.create_user(email, _read_password(password_stdin), role)
        details["user_id"] = user.id
    click.echo(f"{user.email} is now {user.role}; id {user.id}")


@users.command("list")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), help="Default: table on a terminal."
)
def list_(form: str | None) -> None:
    """List all accounts, the oldest first."""
    with clear_errors():
        rows = [_as_row(user) for user in accounts.list_users()]
    if (form or ("table" if sys.stdout.isatty() else "json")) == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _print_table(rows)


@users.command("set-role")
@_email
@click.argument("role", type=_role)
def set_role(email: str, role: str) -> None:
    """Give the account EMAIL the role ROLE."""
    with _recorded("change_role", email, role=role) as details:
        user = accounts.set_role(email, role)
        details["user_id"] = user.id
    click.echo(f"{user.email} is now {user.role}")


@users.command("set-password")
@_email
@_password_stdin
def set_password(email: str, password_stdin: bool) -> None:
    """Set another password for the account EMAIL and end its sessions."""
    with _recorded("set_password", email) as details:
        details["user_id"] = accounts.get_user(email).id  # asked before a password is typed twice
        user = accounts.set_password(email, _read_password(password_stdin))
    click.echo(f"{user.email} has another password; its sessions are ended")


@users.command("disable")
@_email
def disable(email: str) -> None:
    """Refuse logins of the account EMAIL and end its sessions."""
    with _recorded("disable_user", email) as details:
        user = accounts.disable(email)
        details["user_id"] = user.id
    click.echo(f"{user.email} is disabled")


@users.command("enable")
@_email
def enable(email: str) -> None:
    """Let the disabled account EMAIL log in again."""
    with _recorded("enable_user", email) as details:
        user = accounts.enable(email)
        details["user_id"] = user.id
    click.echo(f"{user.email} is enabled")


@users.command("delete")
@_email
@click.confirmation_option(prompt="Delete the account and all its models?")
def delete(email: str) -> None:
    """Delete the account EMAIL together with its models."""
    with _recorded("delete_user", email) as details:
        details["user_id"] = accounts.get_user(email).id
        accounts.delete_user(email)
        parts().registry.sweep()
    click.echo(f"{accounts.fold_email(email)} is deleted")


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


@contextmanager
def _recorded(action: str, email: str, **facts: str) -> Iterator[dict[str, Any]]:
    """Write the user action that the block is, with the details that it fills in."""
    details: dict[str, Any] = dict(facts)
    with clear_errors():
        try:
            yield details
        except (AppError, SQLAlchemyError) as error:
            reason = type(error).__name__
            record_action(
                action, outcome="failure", reason=reason, details=details, email=email, actor="cli"
            )
            raise
        record_action(action, details=details, email=email, actor="cli")


def _as_row(user: User) -> dict[str, str | bool]:
    return {
        "id": user.id,
        "email": user.email,
        "role": user.role,
        "disabled": user.disabled,
        "created_at": user.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _print_table(rows: list[dict[str, str | bool]]) -> None:
    table = Table(box=box.SIMPLE)
    table.add_column("E-mail", overflow="fold")
    for heading in ("Role", "State", "Id"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        state = "disabled" if row["disabled"] else "enabled"
        table.add_row(str(row["email"]), str(row["role"]), state, str(row["id"]))
    Console().print(table)
