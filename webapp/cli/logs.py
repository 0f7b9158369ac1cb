"""``flask logs``: the log answers questions, with no app, secret or database at hand."""

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from webapp.settings import find_log_dir

if TYPE_CHECKING:
    from webapp.cli import rendering, story
    from webapp.logstore import filters, queries, reader
    from webapp.logstore.files import Window
else:

    def _when_used(name: str) -> ModuleType:
        """Import a module when it is first used (the recipe of importlib's documentation)."""
        spec = importlib.util.find_spec(name)
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    # DuckDB and rich take 0.2 s to import, and `--help` needs neither.
    rendering = _when_used("webapp.cli.rendering")
    story = _when_used("webapp.cli.story")
    filters = _when_used("webapp.logstore.filters")
    queries = _when_used("webapp.logstore.queries")
    reader = _when_used("webapp.logstore.reader")

UNREADABLE = 3  # exit status; 1 says that something was found, 2 that the command is wrong


@dataclass(frozen=True)
class Ask:
    """What every question is asked with."""

    log_dir: Path
    window: "Window"
    limit: int | None

    @property
    def reader(self) -> "reader.LogReader":
        """The log in that folder."""
        return reader.LogReader(self.log_dir, threads=4)


Answer = Callable[..., Iterable[Any]]
_user = click.option("--user", "user_id", metavar="ID", help="Only this user.")
_filters = click.argument("expressions", nargs=-1, metavar="[FILTER]...")


@click.group(
    epilog="""\b
    Which request of a user failed yesterday, and why?
      flask logs search --user ID --since 1d 'level>=error'
      flask logs request REQUEST_ID

    \b
    A FILTER is FIELD OPERATOR VALUE, with = != > >= < <= or ~ (contains) and !~:
      flask logs search 'status_code>=500' 'duration>0.2' message~Prediction
    """
)
def logs() -> None:
    """Ask the log: what happened, how often, how fast, and why it failed."""


def question(
    name: str, *parameters: Callable[..., Any], limit: int = 20
) -> Callable[[Answer], click.Command]:
    """Make a command of a function that returns rows."""

    def decorate(answer: Answer) -> click.Command:
        @functools.wraps(answer)
        def command(form: str | None, fail_if_found: bool, **own: Any) -> None:
            ask = _ask(own)
            with _clear_errors():
                found = rendering.show(answer(ask, **own), form)
            if found and fail_if_found:
                raise SystemExit(1)

        options = (
            *_window_options(),
            click.option(
                "--limit",
                type=click.IntRange(0),
                default=limit,
                show_default=True,
                help="Most rows; 0 for all.",
            ),
            _format_option,
            click.option("--fail-if-found", is_flag=True, help="Exit 1 if there are any rows."),
        )
        for option in reversed((*parameters, *options)):
            command = option(command)
        return logs.command(name)(command)

    return decorate


def _window_options() -> tuple[Callable[..., Any], ...]:
    return (
        click.option("--since", metavar="TIME", help="15m, 2h, 7d ago, or an ISO time (UTC)."),
        click.option("--until", metavar="TIME", help="The same; this moment is left out."),
        _log_dir_option,
    )


_log_dir_option = click.option(
    "--log-dir",
    type=click.Path(path_type=Path),
    help="Folder of the log; default: PELLUCID_LOG_DIR, the settings file, or logs.",
)

_format_option = click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "jsonl", "csv")),
    help="Default: table on a terminal, jsonl in a pipe.",
)


def _ask(own: dict[str, Any]) -> Ask:
    log_dir = (own.pop("log_dir") or find_log_dir()).absolute()
    if not log_dir.is_dir():
        click.echo(f"there is no folder {log_dir}", err=True)
    try:
        window = reader.parse_window(own.pop("since"), own.pop("until"), datetime.now(UTC))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return Ask(log_dir, window, own.pop("limit", 0) or None)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Tell what was wrong in one line."""
    try:
        yield
    except filters.FilterError as error:
        raise click.UsageError(str(error)) from None
    except reader.LogReadError as error:
        click.echo(f"the log cannot be read: {error}", err=True)
        raise SystemExit(UNREADABLE) from None


@question(
    "search",
    _filters,
    _user,
    click.option("--request", "request_id", metavar="ID", help="Only this request."),
    limit=50,
)
def search(
    ask: Ask, expressions: tuple[str, ...], user_id: str | None, request_id: str | None
) -> Iterable[Any]:
    """Find events; the newest come last."""
    condition = filters.parse_filters(expressions)
    for name, value in (("user_id", user_id), ("request_id", request_id)):
        if value is not None:
            condition = condition.also(f"{name} = ?", value)
    return queries.search(ask.reader, condition, ask.window, ask.limit)


@logs.command("request")
@click.argument("request_id", metavar="ID")
@_format_option
@_log_dir_option
def request(request_id: str, form: str | None, log_dir: Path | None) -> None:
    """Tell the whole story of one request."""
    ask = _ask({"log_dir": log_dir, "since": None, "until": None})
    with _clear_errors():
        attempts = queries.request_story(ask.reader, request_id)
    if not attempts:
        click.echo(f"no line carries the request id {request_id}", err=True)
    elif rendering.chosen(form) == "table":
        story.print_story(attempts)
    else:
        rendering.show((event for attempt in attempts for event in attempt.events), form)


@question("slow", _user)
def slow(ask: Ask, user_id: str | None) -> Iterable[Any]:
    """Show the slowest requests."""
    return queries.slow_requests(ask.reader, ask.window, ask.limit, user_id)


@question("errors")
def errors(ask: Ask) -> Iterable[Any]:
    """Group failures by their cause, with a sample request."""
    return queries.error_groups(ask.reader, ask.window, ask.limit)


@question("levels")
def levels(ask: Ask) -> Iterable[Any]:
    """Count events by level."""
    return queries.levels(ask.reader, ask.window)
