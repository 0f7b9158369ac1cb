"""What all commands of ``flask logs`` share: options, formats, exit statuses."""

import functools
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import click

from webapp.settings import find_log_dir

if TYPE_CHECKING:
    from webapp.cli import rendering
    from webapp.logstore import reader as log_reader
    from webapp.logstore.files import Window
    from webapp.logstore.reader import LogReader

FOUND: Final = 1  # exit status of --fail-if-found, and of verify when lines are missing
_MOST_THREADS: Final = 4
FAILED: Final = 3  # the log could not be read or written; 2 says that the command is wrong


def when_used(name: str) -> ModuleType:
    """Import a module when it is first used (the recipe of importlib's documentation).

    DuckDB and rich take 0.2 s to import, and ``--help`` needs neither.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(name)
    spec.loader = loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


if not TYPE_CHECKING:
    rendering = when_used("webapp.cli.rendering")
    log_reader = when_used("webapp.logstore.reader")


@dataclass(frozen=True)
class Ask:
    """What every question is asked with."""

    log_dir: Path
    window: "Window"
    limit: int | None = None

    @functools.cached_property
    def reader(self) -> "LogReader":
        """The log in that folder."""
        return self.reader_writing(None)

    def reader_writing(self, output: Path | None) -> "LogReader":
        """The log, for a question whose answer DuckDB writes to a file."""
        threads = min(os.cpu_count() or 1, _MOST_THREADS)
        return log_reader.LogReader(self.log_dir, threads, spill_dir=_spill_dir(), output=output)


Answer = Callable[..., Iterable[Any]]
Option = Callable[[Any], Any]

log_dir_option: Final = click.option(
    "--log-dir",
    type=click.Path(path_type=Path),
    help="Folder of the log; default: PELLUCID_LOG_DIR, the settings file, or logs.",
)
since_option: Final = click.option(
    "--since", metavar="TIME", help="15m, 2h or 7d ago, or an ISO time (UTC)."
)
until_option: Final = click.option(
    "--until", metavar="TIME", help="The same; this moment is left out."
)
format_option: Final = click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "jsonl", "csv")),
    help="Default: table on a terminal, jsonl in a pipe.",
)
fail_option: Final = click.option(
    "--fail-if-found", is_flag=True, help="Exit 1 if there are any rows: an alarm for cron."
)
filter_argument: Final = click.argument("expressions", nargs=-1, metavar="[FILTER]...")
user_option: Final = click.option("--user", "user_id", metavar="ID", help="Only this user.")


def question(
    name: str, *parameters: Option, limit: int = 20, events: bool = False
) -> Callable[[Answer], click.Command]:
    """Make a command of a function that returns rows, or events."""
    limit_option = click.option(
        "--limit",
        type=click.IntRange(0),
        default=limit,
        show_default=True,
        help="Most rows; 0 for all.",
    )
    shared = (since_option, until_option, limit_option, format_option, fail_option, log_dir_option)

    def decorate(answer: Answer) -> click.Command:
        @functools.wraps(answer)
        def command(
            log_dir: Path | None,
            since: str | None,
            until: str | None,
            limit: int,
            form: str | None,
            fail_if_found: bool,
            **own: Any,
        ) -> None:
            ask = make_ask(log_dir, since, until, limit)
            with clear_errors():
                found = rendering.show(answer(ask, **own), form, events=events)
            if found and fail_if_found:
                raise SystemExit(FOUND)

        made: click.Command = click.command(name)(command)
        for option in (*parameters, *shared):
            made = option(made)
        return made

    return decorate


def make_ask(
    log_dir: Path | None, since: str | None = None, until: str | None = None, limit: int = 0
) -> Ask:
    """Read the shared options; a folder that is not there holds nothing."""
    folder = (log_dir or find_log_dir()).absolute()
    if folder.exists() and not folder.is_dir():
        raise click.UsageError(f"{folder} is not a folder")
    if not folder.exists():
        click.echo(f"there is no folder {folder}", err=True)
    try:
        window = log_reader.parse_window(since, until, datetime.now(UTC))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return Ask(folder, window, limit or None)


def _spill_dir() -> Path | None:
    """Make a folder for what does not fit in memory; it goes when the command ends."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="pellucid-")
        return Path(click.get_current_context().with_resource(folder))
    except OSError:
        return None  # nowhere to write: then it has to fit


@contextmanager
def clear_errors() -> Iterator[None]:
    """Tell in one line what was wrong."""
    try:
        yield
    except log_reader.LogReadError as error:
        click.echo(f"the log cannot be read: {error}", err=True)
        raise SystemExit(FAILED) from None
    except PermissionError as error:
        click.echo(f"the log cannot be read: {error.filename}: {error.strerror}", err=True)
        raise SystemExit(FAILED) from None
