"""How answers look: a table on a terminal, one JSON object per line in a pipe, or CSV."""

import csv
import io
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from webapp.events.schema import FIELDS

Record = Mapping[str, Any]
LEVEL_STYLES: Final = {
    "DEBUG": "dim",
    "INFO": "green",
    "WARNING": "yellow",
    "ERROR": "bold red",
    "CRITICAL": "bold white on red",
}
_PIPED_WIDTH: Final = 200
_SECONDS: Final = frozenset(("avg", "min", "max", "p50", "p95", "p99", "total"))
_MOMENTS: Final = frozenset(("timestamp", "start", "first_seen", "last_seen", "last_used"))
# Of an event these have columns of their own, or say little to a reader of a table.
NOT_FACTS: Final = (
    frozenset(field.name for field in FIELDS if field.on in ("every line", "in a request"))
    | {"user_agent", "exception", "request_bytes", "response_bytes"}
) - {"user_id", "internal"}


def show(rows: Iterable[Any], form: str | None, columns: Sequence[str] = ()) -> int:
    """Print rows in a format, by default the one that suits where they go; count them.

    ``columns`` are those of a CSV or a table when the rows are events, which differ in theirs.
    """
    records = _Counted(rows)
    form = chosen(form)
    if form == "table":
        shown = [_event_in_table(r) if "event_type" in r else r for r in records]
        _print_table(shown)
    else:
        write = {"json": _json, "jsonl": _jsonl}.get(form)
        for text in write(records) if write else _csv(records, columns):
            sys.stdout.write(escape(text, keep="\n") if sys.stdout.isatty() else text)
    return records.count


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


def console() -> Console:
    """Make a console that takes text as it is: no markup, no emoji, no guessing of colours."""
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=False, width=width)


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
    return str(value) if isinstance(value, int) else escape(_dump(value))


def seconds(value: float) -> str:
    """Write a duration in the unit that suits it."""
    return f"{value:.3f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def moment(iso: str) -> str:
    """Write a time to the millisecond."""
    return iso[:23].replace("T", " ")


def _event_in_table(event: Record) -> Record:
    what = " ".join(str(event[name]) for name in ("method", "path") if name in event)
    return {
        "time (UTC)": moment(event["timestamp"]),
        "level": event.get("level"),
        "message": event.get("message"),
        "request": what,
        "facts": facts(event),
        "request_id": event.get("request_id"),
    }


def _print_table(records: Sequence[Record]) -> None:
    if not records:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, value in records[0].items():
        is_number = isinstance(value, int | float)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for record in records:
        style = LEVEL_STYLES.get(str(record.get("level")), "")
        table.add_row(
            *(
                Text(cell(name, value), style=style if name == "level" else "")
                for name, value in record.items()
            )
        )
    console().print(table)


def _dump(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _jsonl(records: Iterable[Record]) -> Iterator[str]:
    for record in records:
        yield _dump(record) + "\n"


def _json(records: Iterable[Record]) -> Iterator[str]:
    before = "[\n"
    for record in records:
        yield before + _dump(record)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _csv(records: Iterable[Record], columns: Sequence[str]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = list(columns)
    for number, record in enumerate(records):
        names = names or list(record)
        if number == 0:
            writer.writerow(names)
        writer.writerow([_in_csv(record.get(name)) for name in names])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _in_csv(value: Any) -> Any:
    return _dump(value) if isinstance(value, dict | list | bool) else value
