"""The story of one request on a terminal: what happened, when, and why it failed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from webapp.cli.rendering import (
    LEVEL_STYLES,
    NOT_FACTS,
    cell,
    console,
    escape,
    facts,
    moment,
    seconds,
)
from webapp.logstore.rows import Attempt

# What the head of the story has told already, the lines need not repeat.
_TOLD = NOT_FACTS | {"user_id", "role", "query", "exception_type", "fingerprint", "status_code"}
_HEAD = ("status_code", "duration", "user_id", "role", "model_name", "model_version", "client_ip")


def print_story(attempts: Sequence[Attempt]) -> None:
    """Print every attempt that used one request id."""
    out = console()
    for number, attempt in enumerate(attempts, 1):
        title = f"attempt {number} of {len(attempts)}" if len(attempts) > 1 else "request"
        out.print(Rule(Text(f"{title} {escape(attempt.request_id)}"), align="left"))
        _print_head(out, attempt)
        shown_traceback = ""
        begin = datetime.fromisoformat(attempt.events[0]["timestamp"])
        for event in attempt.events:
            _print_event(out, event, begin)
            # The request's own failure line repeats the exception: tell it once.
            if (trace := event.get("exception") or "") and trace != shown_traceback:
                out.print(Padding(_traceback(trace), (0, 0, 0, 12)))
                shown_traceback = trace


def _print_head(out: Console, attempt: Attempt) -> None:
    known: dict[str, Any] = {}
    for event in attempt.events:
        known |= event
    known |= attempt.end or {}
    what = " ".join(str(known[name]) for name in ("method", "path") if name in known)
    out.print(Text(escape(what), style="bold"))
    began = f"{moment(attempt.events[0]['timestamp'])} UTC, {attempt.host} pid {attempt.pid}"
    told = [f"{name} {cell(name, known[name])}" for name in _HEAD if name in known]
    out.print(Text(", ".join([began, *told])))
    if attempt.end is None:
        out.print(Text("never completed: the worker died, or is at it still", style="bold red"))
    out.print()


def _print_event(out: Console, event: dict[str, Any], begin: datetime) -> None:
    after = (datetime.fromisoformat(event["timestamp"]) - begin).total_seconds()
    level = str(event.get("level", ""))
    line = Text.assemble(
        (f"{'+' + seconds(max(after, 0.0)):>11} ", "dim"),
        (f"{escape(level):<8} ", LEVEL_STYLES.get(level, "")),
        (escape(str(event.get("message", ""))), "bold"),
    )
    if told := facts(event, _TOLD):
        line.append(f"  {told}")
    out.print(line)
    if query := event.get("query"):
        out.print(Padding(Text(escape(query), style="cyan"), (0, 0, 0, 12)))


def _traceback(trace: str) -> Text:
    """Write a traceback with our own frames bright and those of libraries dim."""
    text = Text()
    style = ""
    for line in trace.rstrip().split("\n"):
        if line.startswith('  File "'):
            style = "bold yellow" if "/webapp/" in line else "dim"
        elif not line.startswith(" "):
            style = "bold red" if not line.startswith("Traceback") else ""
        text.append(escape(line) + "\n", style=style)
    text.rstrip()
    return text
