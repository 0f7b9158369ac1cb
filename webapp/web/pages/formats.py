"""How values look on a page: units, times, and text that cannot hide what it is."""

import unicodedata
from collections.abc import Mapping
from typing import Any, Final

import orjson
from markupsafe import Markup

from webapp.events.schema import FIELDS

NONE: Final = "–"
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_KIB: Final = 1024
# Of an event these stand elsewhere on the page, or say little.
_TOLD: Final = (
    frozenset(field.name for field in FIELDS if field.on in ("every line", "in a request"))
    | {"exception", "query", "exception_type", "fingerprint", "request_bytes", "response_bytes"}
    | {"action", "user_agent", "db_repeated_query"}
) - {"internal"}


def visible(value: Any) -> Any:
    r"""Write characters that show nothing, or turn a line around, as ``\u202e``.

    Every value of every template passes here. Line ends and tabs stay as they are.
    """
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in _UNSEEN
        else f"\\u{ord(char):04x}"
        for char in value
    )


def seconds(value: float | None) -> str:
    """Write a duration in the unit that suits it."""
    if value is None:
        return NONE
    if value >= 100:
        return f"{value:,.0f} s"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value * 1000:.0f} ms"


def number(value: float | None) -> str:
    """Write a count with its thousands apart."""
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def percent(value: float | None) -> str:
    """Write a share."""
    if value is None:
        return NONE
    return "0 %" if value == 0 else f"{value:.2%}".replace("%", " %")


def size(value: float | None) -> str:
    """Write a number of bytes."""
    if value is None:
        return NONE
    for unit in ("B", "KiB", "MiB"):
        if value < _KIB:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= _KIB
    return f"{value:.1f} GiB"


def day_and_second(moment: Any) -> str:
    """Write a time to the second, from ISO 8601 or a datetime."""
    return _iso(moment)[:19].replace("T", " ")


def millisecond(moment: Any) -> str:
    """Write the time of day to the millisecond."""
    return _iso(moment)[11:23]


def _iso(moment: Any) -> str:
    return moment if isinstance(moment, str) else str(moment.isoformat())


def change(now: float | None, before: float | None) -> str:
    """Write how a figure changed against the window before."""
    if now is None or before is None:
        return NONE
    if before == now:
        return "no change"
    if not before:
        return "none before"
    share = (now - before) / before
    return f"× {now / before:.1f}" if share > 9 else f"{share:+.0%}".replace("-", "−")


def facts(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the fields that an event has of its own, with their values as text."""
    return [(name, _text(name, value)) for name, value in event.items() if name not in _TOLD]


def details(text: str | None) -> list[tuple[str, str]]:
    """List what else a line tells of an action; a digest is known by its beginning."""
    found = orjson.loads(text) if text else {}
    if not isinstance(found, dict):
        return [("details", as_json(found))]
    return [
        (
            name,
            f"{value[:12]}…" if name == "sha256" and isinstance(value, str) else _text("", value),
        )
        for name, value in found.items()
    ]


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and "duration" in name:
        return seconds(value)
    if isinstance(value, dict | list):
        return as_json(value)
    return str(value)


def as_json(value: Any) -> str:
    """Write a value of a line as it stands there."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def frames(trace: str) -> list[tuple[str, str]]:
    """Tell apart the lines of a traceback: our frames, those of libraries, and the error."""
    kinds: list[tuple[str, str]] = []
    kind = "head"
    for line in trace.rstrip().split("\n"):
        if line.startswith('  File "'):
            kind = "own" if "/webapp/" in line else "library"
        elif not line.startswith(" "):
            kind = "head" if line.startswith("Traceback") or not line else "error"
        kinds.append((kind, line))
    return kinds


FILTERS: Final = {
    "seconds": seconds,
    "number": number,
    "percent": percent,
    "size": size,
    "day_and_second": day_and_second,
    "millisecond": millisecond,
    "facts": facts,
    "details": details,
    "frames": frames,
    "as_json": as_json,
}
