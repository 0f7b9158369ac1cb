"""How answers look: a table on a terminal, one JSON object per line in a pipe, or CSV."""

import csv
import io
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, Final

import orjson
from rich.console import Console
from rich.measure import Measurement
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from webapp.events.schema import FIELD_NAMES, FIELDS, GIVEN_NAMES

Record = Mapping[str, Any]
LEVEL_STYLES: Final = {
    "DEBUG": "dim",
    "INFO": "green",
    "WARNING": "yellow",
    "ERROR": "bold red",
    "CRITICAL": "bold white on red",
}
_PIPED_WIDTH: Final = 200
_ANY_WIDTH: Final = 10_000
_SECONDS: Final = frozenset(("avg", "min", "max", "p50", "p95", "p99", "total"))
_MOMENTS: Final = frozenset(("timestamp", "start", "first_seen", "last_seen", "last_used"))
# Of an event these have columns of their own, or say little to a reader of a table.
NOT_FACTS: Final = (
    GIVEN_NAMES | {"user_agent", "exception", "request_bytes", "response_bytes", "raw"}
) - {"user_id", "internal"}


def show(rows: Iterable[Any], form: str | None = None, *, events: bool = False) -> int:
    """Print rows in a format, by default the one that suits where they go; count them.

    Events differ in their fields: a table of them is lines, a CSV has all columns.
    """
    records = _Counted(rows)
    form = chosen(form)
    if form == "table" and events:
        out = console()
        for event in records:
            print_event(out, event)
    elif form == "table":
        _print_table(records)
    else:
        for text in as_text(records, form, events=events):
            sys.stdout.write(escape(text, keep="\n") if sys.stdout.isatty() else text)
    return records.count


def as_text(records: Iterable[Record], form: str, *, events: bool = False) -> Iterator[str]:
    """Write records as JSON, JSON lines or CSV, piece by piece."""
    if form == "json":
        return _json(records)
    if form == "jsonl":
        return _jsonl(records)
    return _csv(map(_all_columns, records) if events else records)


def chosen(form: str | None) -> str:
    """Choose the format that suits where the rows go."""
    return form or ("table" if sys.stdout.isatty() else "jsonl")


class _Counted:
    """Rows as objects, counted while they pass: they may be too many to hold."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Record]:
        for row in self._rows:
            self.count += 1
            yield asdict(row) if is_dataclass(row) and not isinstance(row, type) else row


def console(*, stderr: bool = False) -> Console:
    """Make a console that takes text as it is: no markup, no emoji, no guessing of colours."""
    return Console(
        markup=False,
        emoji=False,
        highlight=False,
        stderr=stderr,
        width=None if (sys.stderr if stderr else sys.stdout).isatty() else _PIPED_WIDTH,
        # By itself rich would leave bold and dim.
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )


def escape(text: str, keep: str = "") -> str:
    r"""Write characters that could drive a terminal, or turn its text around, as ``\u001b``."""
    if text.isprintable():
        return text
    return "".join(
        char
        if char in keep or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else f"\\u{ord(char):04x}"
        for char in text
    )


def facts(event: Record, leave_out: frozenset[str] = NOT_FACTS) -> str:
    """Write the fields of an event that are its own as ``name=value``."""
    return "  ".join(
        f"{name}={cell(name, value)}" for name, value in event.items() if name not in leave_out
    )


def cell(name: str, value: Any) -> str:
    """Write one value for a reader; the name tells the unit."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return escape(moment(value) if name in _MOMENTS else value)
    if isinstance(value, int | float) and ("duration" in name or name in _SECONDS):
        return seconds(value)
    if isinstance(value, float):
        return f"{value:.2%}" if name.endswith(("_rate", "_ratio")) else f"{value:g}"
    return escape(_dump(value) if isinstance(value, dict | list) else str(value))


def seconds(value: float) -> str:
    """Write a duration in the unit that suits it."""
    return f"{value:.3f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def moment(iso: str) -> str:
    """Write a time to the millisecond."""
    return iso[:23].replace("T", " ")


def print_event(out: Console, event: Record) -> None:
    """Print an event as one line for a reader."""
    level = str(event.get("level", ""))
    what = " ".join(str(event[name]) for name in ("method", "path") if name in event)
    line = Text.assemble(
        (moment(str(event.get("timestamp", ""))), "dim"),
        (f" {escape(level):<8} ", LEVEL_STYLES.get(level, "")),
        (escape(str(event.get("message", event.get("raw", "")))), "bold"),
        (f"  {escape(what)}" if what else ""),
    )
    own = facts(event)
    if "request_id" in event:
        own += f"  request_id={escape(str(event['request_id']))}"
    line.append(f"  {own.strip()}" if own else "", style="default")
    out.print(line, soft_wrap=True)


def _print_table(records: Iterable[Record]) -> None:
    """Print a line for each row, or a block where numbers, times, ids or words would be broken."""
    kept = list(records)
    if not kept:
        return
    out, table = console(), Table(box=None, pad_edge=False, header_style="bold")
    for name, value in kept[0].items():
        is_number = isinstance(value, int | float)
        whole = is_number or name in _MOMENTS or name.endswith("_id")
        table.add_column(
            escape(name),
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=whole,
            min_width=max(len(cell(name, row.get(name))) for row in kept) if whole else None,
        )
    for record in kept:
        table.add_row(*(_styled(name, value) for name, value in record.items()))
    if Measurement.get(out, out.options.update_width(_ANY_WIDTH), table).minimum <= out.width:
        out.print(table)
    else:
        _print_blocks(out, kept)


def _print_blocks(out: Console, records: list[Record]) -> None:
    for number, record in enumerate(records, 1):
        out.print(Rule(Text(str(number)), align="left", style="dim"))
        block = Table.grid("", "", padding=(0, 2))
        for name, value in record.items():
            if value is not None:
                block.add_row(Text(escape(name), "bold"), _styled(name, value))
        out.print(block)


def _styled(name: str, value: Any) -> Text:
    style = LEVEL_STYLES.get(str(value), "") if name == "level" else ""
    return Text(cell(name, value), style, overflow="fold")


def _dump(value: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _jsonl(records: Iterable[Record]) -> Iterator[str]:
    for record in records:
        yield _dump(record) + "\n"


def _json(records: Iterable[Record]) -> Iterator[str]:
    before = "[\n"
    for record in records:
        yield before + _dump(record)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _csv(records: Iterable[Record]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for number, record in enumerate(records):
        if number == 0:
            writer.writerow(record)
        writer.writerow(map(_in_csv, record.values()))
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _all_columns(event: Record) -> Record:
    """Give an event every field of the table, and the others as one column."""
    others = {name: value for name, value in event.items() if name not in FIELD_NAMES}
    return {field.name: event.get(field.name) for field in FIELDS} | {"extra": others or None}


def _in_csv(value: Any) -> Any:
    return _dump(value) if isinstance(value, dict | list | bool) else value
