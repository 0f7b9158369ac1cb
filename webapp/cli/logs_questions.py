"""The commands of ``flask logs`` that answer a question."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from webapp.cli.logs_group import (
    Ask,
    clear_errors,
    filter_argument,
    format_option,
    log_dir_option,
    make_ask,
    question,
    user_option,
    when_used,
)

if TYPE_CHECKING:
    from webapp.cli import rendering, story
    from webapp.logstore import filters, queries
else:
    rendering = when_used("webapp.cli.rendering")
    story = when_used("webapp.cli.story")
    filters = when_used("webapp.logstore.filters")
    queries = when_used("webapp.logstore.queries")

_failed = click.option("--failed", is_flag=True, help="Only those that failed.")


def read_filters(expressions: tuple[str, ...]) -> "filters.Condition":
    """Read filter expressions, or say what is wrong with one."""
    try:
        return filters.parse_filters(expressions)
    except filters.FilterError as error:
        raise click.UsageError(str(error)) from None


@question(
    "search",
    filter_argument,
    user_option,
    click.option("--request", "request_id", metavar="ID", help="Only this request."),
    limit=50,
    events=True,
)
def search(
    ask: Ask, expressions: tuple[str, ...], user_id: str | None, request_id: str | None
) -> Iterable[Any]:
    """Find events by any field; the newest come last."""
    condition = read_filters(expressions)
    for name, value in (("user_id", user_id), ("request_id", request_id)):
        if value is not None:
            condition = condition.also(f"{name} = ?", value)
    return queries.search(ask.reader, condition, ask.window, ask.limit)


@click.command("request")
@click.argument("request_id", metavar="ID")
@format_option
@log_dir_option
def request(request_id: str, form: str | None, log_dir: Path | None) -> None:
    """Tell the whole story of one request, with its SQL, model and traceback."""
    ask = make_ask(log_dir)
    with clear_errors():
        attempts = queries.request_story(ask.reader, request_id)
    if not attempts:
        click.echo(f"no line carries the request id {request_id}", err=True)
    elif rendering.chosen(form) == "table":
        story.print_story(attempts)
    else:
        rendering.show((e for attempt in attempts for e in attempt.events), form, events=True)


@question("slow", user_option)
def slow(ask: Ask, user_id: str | None) -> Iterable[Any]:
    """List the slowest requests, and where their time went."""
    return queries.slow_requests(ask.reader, ask.window, ask.limit, user_id)


@question("errors", user_option)
def errors(ask: Ask, user_id: str | None) -> Iterable[Any]:
    """Group failures by their cause, with a sample request."""
    return queries.error_groups(ask.reader, ask.window, ask.limit, user_id)


@question("logins", click.option("--email", help="Only this address."), _failed)
def logins(ask: Ask, email: str | None, failed: bool) -> Iterable[Any]:
    """List attempts to log in; the newest come last."""
    return queries.logins(ask.reader, ask.window, ask.limit, email=email, failed=failed)


@question(
    "endpoints",
    click.option("--endpoint", metavar="NAME", help="Only this, as 'POST /api/v1/models/upload'."),
    click.option("--internal", is_flag=True, help="Probes and scrapes too."),
)
def endpoints(ask: Ask, endpoint: str | None, internal: bool) -> Iterable[Any]:
    """Measure every endpoint: requests, durations, errors."""
    return queries.endpoint_performance(ask.reader, ask.window, endpoint, internal)[: ask.limit]


@question("users")
def users(ask: Ask) -> Iterable[Any]:
    """List the most active users."""
    return queries.users(ask.reader, ask.window, ask.limit)


@question("models")
def models(ask: Ask) -> Iterable[Any]:
    """List the models that were asked most."""
    return queries.models(ask.reader, ask.window, ask.limit)


@question(
    "predictions",
    user_option,
    click.option("--model", metavar="MODEL", help="Only this model, by id or name."),
    _failed,
)
def predictions(ask: Ask, user_id: str | None, model: str | None, failed: bool) -> Iterable[Any]:
    """List predictions; the newest come last."""
    rows, _ = queries.predictions(
        ask.reader, user_id, 1, ask.limit, ask.window, model=model, failed=failed
    )
    return reversed(rows)


@question("queries")
def slow_queries(ask: Ask) -> Iterable[Any]:
    """Group slow SQL statements."""
    return queries.slow_queries(ask.reader, ask.window, ask.limit)


@question("levels")
def levels(ask: Ask) -> Iterable[Any]:
    """Count events by level."""
    return queries.levels(ask.reader, ask.window)


@question("unfinished", user_option)
def unfinished(ask: Ask, user_id: str | None) -> Iterable[Any]:
    """List requests that started and never completed."""
    return queries.unfinished(ask.reader, ask.window, ask.limit, user_id)
