"""The commands of ``flask logs`` that look at the log as files: follow, check, keep, move."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from webapp.cli.logs_group import (
    FAILED,
    FOUND,
    Ask,
    clear_errors,
    filter_argument,
    format_option,
    log_dir_option,
    make_ask,
    since_option,
    until_option,
    when_used,
)
from webapp.cli.logs_questions import read_filters
from webapp.settings import SettingError, Settings, load

if TYPE_CHECKING:
    from rich import progress

    from webapp.cli import rendering
    from webapp.events import actions, rotation
    from webapp.logstore import archive, export, files, integrity, retention, sql, tail
else:
    progress = when_used("rich.progress")
    rendering = when_used("webapp.cli.rendering")
    actions = when_used("webapp.events.actions")
    rotation = when_used("webapp.events.rotation")
    archive = when_used("webapp.logstore.archive")
    export = when_used("webapp.logstore.export")
    files = when_used("webapp.logstore.files")
    integrity = when_used("webapp.logstore.integrity")
    retention = when_used("webapp.logstore.retention")
    sql = when_used("webapp.logstore.sql")
    tail = when_used("webapp.logstore.tail")

_POLL_SECONDS: Final = 0.3


@click.command("tail")
@click.option("-f", "--follow", is_flag=True, help="Go on, also when the log rotates.")
@click.option("-n", "--limit", type=click.IntRange(0), default=20, show_default=True)
@click.option("--format", "form", type=click.Choice(("table", "jsonl")))
@log_dir_option
def tail_(follow: bool, limit: int, form: str | None, log_dir: Path | None) -> None:
    """Show the newest events, and with -f those that come."""
    ask = make_ask(log_dir)
    # An interrupt is how one stops following.
    with clear_errors(), closing(tail.Tail(ask.log_dir)) as end, suppress(KeyboardInterrupt):
        rendering.show(end.newest(limit), form, events=True)
        while follow:
            sys.stdout.flush()
            time.sleep(_POLL_SECONDS)
            rendering.show(end.added(), form, events=True)


@click.command("verify")
@format_option
@log_dir_option
def verify(form: str | None, log_dir: Path | None) -> None:
    """Look for lost lines: gaps in the numbers of each process; exit 1 if any are missing."""
    ask = make_ask(log_dir)
    with clear_errors():
        checks = integrity.verify(ask.reader)
    rendering.show(checks, form)
    missing = sum(check.missing or 0 for check in checks)
    invalid = sum(check.invalid_lines or 0 for check in checks)
    if missing or invalid:
        click.echo(f"{missing} lines are missing, {invalid} lines are no events", err=True)
    if missing:
        raise SystemExit(FOUND)


@click.command("stats")
@format_option
@log_dir_option
def stats(form: str | None, log_dir: Path | None) -> None:
    """Count files, events and bytes: active, closed and archived."""
    ask = make_ask(log_dir)
    with clear_errors():
        rendering.show(integrity.stats(ask.reader), form)


@click.command("sql")
@click.argument("text", metavar="SELECT")
@format_option
@log_dir_option
def sql_(text: str, form: str | None, log_dir: Path | None) -> None:
    """Run a SELECT of DuckDB on the view events; times are UTC, durations seconds."""
    ask = make_ask(log_dir)
    with clear_errors():
        try:
            rendering.show(sql.select(ask.reader, text), form)
        except sql.SqlError as error:
            raise click.UsageError(str(error)) from None


@click.command("export")
@filter_argument
@since_option
@until_option
@click.option("--format", "form", type=click.Choice(("csv", "parquet", "jsonl")), default="jsonl")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Default: stdout."
)
@log_dir_option
def export_(
    expressions: tuple[str, ...],
    since: str | None,
    until: str | None,
    form: str,
    output: Path | None,
    log_dir: Path | None,
) -> None:
    """Write events to a file, in the order of time: CSV, Parquet or JSON lines."""
    ask = make_ask(log_dir, since, until)
    condition = read_filters(expressions)
    if output is None and form == "parquet":
        raise click.UsageError("Parquet needs a file: --output events.parquet")
    with clear_errors():
        if output is None:
            rows = export.stream_events(ask.reader, condition, ask.window)
            rendering.show(rows, form, events=True)
        else:
            _export_to(output, ask, condition, form)


def _export_to(output: Path, ask: Ask, condition: Any, form: str) -> None:
    # Under another name until it is whole: nobody takes half an export for all.
    partial = output.with_name(f"{output.name}.partial")
    try:
        partial.touch()
        with _bar() as bar:
            total = export.count_events(ask.reader, condition, ask.window)
            if form == "parquet":
                bar.add_task("exporting", total=None)
                reader = ask.reader_writing(partial)
                export.write_parquet(reader, condition, partial, ask.window)
            else:
                rows = export.stream_events(ask.reader, condition, ask.window)
                rows = bar.track(rows, total, description="exporting")
                with partial.open("w", encoding="utf-8", newline="") as file:
                    file.writelines(rendering.as_text(rows, form, events=True))
        partial.rename(output)
    except OSError as error:
        raise click.FileError(str(output), error.strerror) from None
    finally:
        partial.unlink(missing_ok=True)
    click.echo(f"{total} events in {output}", err=True)


@click.command("archive")
@format_option
@log_dir_option
def archive_(form: str | None, log_dir: Path | None) -> None:
    """Convert closed segments to Parquet now; the service does it after each rotation."""
    ask = make_ask(log_dir)
    settings = _settings()
    done: list[archive.Archived] = []
    with _changing(ask), _bar() as bar:
        task = bar.add_task("archiving", total=len(files.list_segments(ask.log_dir)))

        def note(archived: "archive.Archived") -> None:
            done.append(archived)
            bar.advance(task)

        try:
            archive.archive_segments(ask.log_dir, note)
        finally:
            if done:
                _record(ask, settings, "archive_log", segments=len(done))
    rendering.show(done, form)


@click.command("prune")
@click.option("--retention-days", type=click.IntRange(0), help="Default: the setting.")
@click.option("--max-bytes", type=click.IntRange(0), help="Default: the setting.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be deleted.")
@format_option
@log_dir_option
def prune(
    retention_days: int | None,
    max_bytes: int | None,
    dry_run: bool,
    form: str | None,
    log_dir: Path | None,
) -> None:
    """Delete the oldest files: those past retention, and what is over the size."""
    ask = make_ask(log_dir)
    settings = _settings()
    days = settings.log_retention_days if retention_days is None else retention_days
    size = settings.log_max_bytes if max_bytes is None else max_bytes
    with _changing(ask):
        removed = retention.prune(ask.log_dir, days, size, dry_run=dry_run)
        if removed and not dry_run:
            freed = sum(file.size_bytes for file in removed)
            _record(ask, settings, "prune_log", files=len(removed), bytes=freed)
    rendering.show(removed, form)


def _settings() -> Settings:
    """Load the settings; these commands need no secret, so none is made."""
    try:
        return load(overrides={"jwt_secret_key": "not used by the log's commands"})
    except SettingError as error:
        raise click.UsageError(str(error)) from None


@contextmanager
def _changing(ask: Ask) -> Iterator[None]:
    """Hold the archive's lock, and tell in one line what went wrong."""
    if not ask.log_dir.is_dir():
        raise SystemExit(0)  # nothing to change; that it is missing has been said
    try:
        with archive.archive_lock(ask.log_dir):
            yield
    except archive.ArchiveBusyError:
        click.echo("another process is at it, and a second one waits", err=True)
        raise SystemExit(FAILED) from None
    except (archive.ArchiveError, OSError) as error:
        click.echo(f"the log could not be changed: {error}", err=True)
        raise SystemExit(FAILED) from None


def _record(ask: Ask, settings: Settings, action: str, **details: Any) -> None:
    """Write to the log that its files were changed, and by whom."""
    handler = rotation.SharedRotatingHandler(ask.log_dir, settings.log_segment_bytes)
    logger = logging.getLogger("webapp")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        actions.record_action(action, details=details, actor="cli")
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def _bar() -> Any:  # Any: rich is imported when it is used
    """Make a progress bar on stderr; without a terminal it stays silent."""
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        console=rendering.console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
