"""What may never be written: secrets by the name they stand under, by their shape, or by value."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, quote_plus

REDACTED: Final = "[redacted]"
# Shorter values occur by chance in ordinary text; replacing them would only harm the log.
MIN_KNOWN_CHARS: Final = 6

_NAMES: Final = (
    "password",
    "passwd",
    "secret",
    "token",
    "authorization",
    "api_key",
    "apikey",
    "cookie",
    "credential",
    "private_key",
)
_SHAPES: Final = (
    (re.compile(r"eyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*)*"), REDACTED),  # JWT
    (re.compile(r"\bpel_[\w-]{8,}"), REDACTED),  # our API keys
    (re.compile(r"(?i)\b(bearer|basic)(\s+|%20|\+)[\w.~+/=%-]{6,}"), rf"\1\2{REDACTED}"),
    (re.compile(r"(\w://[^\s/:@'\"]*):[^\s/'\"]*@"), rf"\1:{REDACTED}@"),  # credentials in a URL
    (
        re.compile(
            rf"(?i)((?:{'|'.join(_NAMES)}|pwd|api-key|private-key)[\w-]*[\"']?\s*(?:[=:]|%3d)\s*)"
            r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s\"',;&)}\]]+)"
        ),
        rf"\1{REDACTED}",
    ),
)
# One of these stands in every text that a name or a shape could match. They are looked for in the
# whole line first: such a search costs a fiftieth of the patterns.
_HINTS: Final = (
    *("passw", "secret", "token", "authorization", "key", "cookie", "credential", "pwd"),
    *("eyj", "pel_", "bearer", "basic", "@"),
)
# Fields whose text the program does not choose. A value is looked for in these only: otherwise a
# caller could hide an event by sending, say, its name as a password.
FREE_TEXT: Final = frozenset(
    {"message", "exception", "query", "details", "query_params", "user_agent", "reason", "path"}
)

_process_secrets: set[str] = set()
_process_needles: set[str] = set()


def remember(*secrets: str) -> None:
    """Never write these values again, whoever logs them in this process."""
    for secret in secrets:
        _process_secrets.update(spellings(secret))
        _process_needles.update(
            json.dumps(spelling, ensure_ascii=False)[1:-1] for spelling in spellings(secret)
        )


def spellings(secret: str) -> set[str]:
    """List the ways in which a secret stands in a text: as it is, quoted for a URL, escaped."""
    if len(secret) < MIN_KNOWN_CHARS:
        return set()
    quotable = secret.encode("utf-8", "replace")
    return {secret, quote(quotable), quote_plus(quotable), repr(secret)[1:-1]}


@lru_cache(maxsize=4096)
def is_sensitive(name: str) -> bool:
    """Tell whether a value under this name is a secret."""
    plain = name.lower().replace("-", "_")
    return any(word in plain for word in _NAMES)


def may_hold_secret(line: bytes) -> bool:
    """Tell, cheaply, whether a serialised line needs a closer look."""
    # Plain loops over text: on every line, a generator costs as much as five searches, and a
    # search in bytes twice that in text.
    line_text = line.decode()
    lowered = line_text.lower()
    for hint in _HINTS:
        if hint in lowered:
            return True
    for needle in _process_needles:  # noqa: SIM110 - see above
        if needle in line_text:
            return True
    return False


def text(value: str, known: Iterable[str] = ()) -> str:
    """Take every secret out of a text."""
    for secret in sorted((*known, *_process_secrets), key=len, reverse=True):
        value = value.replace(secret, REDACTED)
    return shapes(value)


def shapes(value: str) -> str:
    """Take out what is shaped like a secret."""
    for pattern, replacement in _SHAPES:
        value = pattern.sub(replacement, value)
    return value


def event(fields: Mapping[str, Any], known: Iterable[str] = ()) -> dict[str, Any]:
    """Take every secret out of an event whose line may hold one."""
    return {
        name: REDACTED if is_sensitive(name) else _deep(value, known, name in FREE_TEXT)
        for name, value in fields.items()
    }


def _deep(value: Any, known: Iterable[str], free: bool) -> Any:
    if isinstance(value, str):
        return text(value, known) if free else shapes(value)
    if isinstance(value, Mapping):
        return {
            _deep(key, known, free): REDACTED
            if isinstance(key, str) and is_sensitive(key)
            else _deep(item, known, free)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_deep(item, known, free) for item in value]
    return value
