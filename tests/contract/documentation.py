"""The tables of the README, made from the code that they describe."""

import re
from pathlib import Path

from webapp.events.schema import FIELDS
from webapp.settings import SETTINGS

README = Path(__file__).parents[2] / "README.md"


def settings_table() -> str:
    """Describe every setting."""
    rows = [
        f"| `{spec.name.upper()}` | {spec.metadata['shown']} | {spec.metadata['help']} |"
        for spec in SETTINGS
    ]
    return "\n".join(["| Setting | Default | Meaning |", "|---|---|---|", *rows])


def events_table() -> str:
    """Describe every field of an event."""
    rows = [f"| `{f.name}` | {f.type.lower()} | {f.on} | {f.meaning} |" for f in FIELDS]
    return "\n".join(["| Field | Type | On | Meaning |", "|---|---|---|---|", *rows])


TABLES = {"settings": settings_table, "events": events_table}


def with_tables(text: str) -> str:
    """Put the tables between their markers."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
        text = pattern.sub(lambda _, t=table, b=begin, e=end: f"{b}\n{t()}\n{e}", text)
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
