"""What may never be written: secrets by the name they stand under, by their shape, or by value."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, quote_plus

from webapp.events.schema import FIELD_NAMES, LOG

REDACTED: Final = "[redacted]"
# Shorter values occur by chance in ordinary text; replacing them would only harm the log.
MIN_KNOWN_CHARS: Final = 6

# As they stand without underscores and hyphens.
_NAMES: Final = (
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "authorization",
    "apikey",
    "accesskey",
    "privatekey",
    "cookie",
    "credential",
)
# Whole names of parameters; in a text they are words like others.
_WHOLE_NAMES: Final = frozenset(
    (
        *("auth", "bearer", "jwt", "otp", "pass", "passcode", "pw"),
        *("session", "sessionid", "sid", "sig", "signature", "xamzsignature"),
    )
)
_NAME: Final = "(?:" + "|".join(_NAMES).replace("key", "[-_ ]?key") + r")[\w-]{0,64}+"
# A name and its value, however they were written down: name=value, "name": "value" also inside
# another string, name%3Dvalue, ('name', 'value'), name=['value', 'value'], name=b'value'.
_NAMED: Final = re.compile(
    rf"({_NAME}(?:\\*[\"']?\s{{0,8}}(?:[=:]|%3d)|\\*[\"']\s{{0,8}},)>?\s{{0,8}})"
    r"(?:[bru]{0,2}(\\*[\"'])(?:(?!(?<!\\)\2).)*+(?:\2)?"
    r"|[\[({][^\n\])}]*+[\])}]?"
    r"|[^\s\"',;&)}\]]+)",
    re.IGNORECASE,
)
# These headers have spaces and commas in their values, which end with the line.
_HEADER: Final = re.compile(
    r"((?:authorization|cookie)[\w-]{0,64}+\s{0,8}[=:]\s{0,8})(?![bru]{0,2}\\*[\"'\[({])[^\n]+",
    re.IGNORECASE,
)
_JWT: Final = re.compile(r"eyJ[\w-]*+(?:\.[\w-]*+)*+")
# Not in the middle of a word, but after an escaped character, which ends in a letter too.
_API_KEY: Final = re.compile(
    r"pel_(?:(?<![a-z]pel_)|(?<=\\[a-z]pel_)|(?<=%[\da-f]{2}pel_)|(?<=\\x[\da-f]{2}pel_))[\w-]{8,}",
    re.IGNORECASE,
)
_SHAPES: Final = (
    (_API_KEY, REDACTED),
    (re.compile(r"(?i)(bearer|basic)(\s{1,8}|%20|\+)[\w.~+/=%-]{6,}"), rf"\1\2{REDACTED}"),
    # Credentials in a URL; the number is a port.
    (
        re.compile(r"(\w://[^\s/:@'\"]{0,256}):(?!\d{1,5}[/?#])[^\s'\"]{1,512}@"),
        rf"\1:{REDACTED}@",
    ),
    (re.compile(r"\$argon2[\w$=,+/.-]+"), REDACTED),
    (_HEADER, rf"\1{REDACTED}"),
    (_NAMED, rf"\1{REDACTED}"),
)
# One of these stands in every text that a name or a shape could match. They are looked for in the
# whole line first: such a search costs a fiftieth of the patterns.
_HINTS: Final = (
    *("passw", "passphr", "secret", "token", "authorization", "key", "cookie", "credential"),
    *("pwd", "eyj", "pel_", "bearer", "basic", "argon2", "@"),
)
# Fields whose text the program chooses, or that a client could choose to hide behind. A known
# secret is not looked for in these: a caller could otherwise take an event out of the answers by
# sending, say, its action or its address as a password.
_CHOSEN: Final = FIELD_NAMES - {
    *("message", "path", "query", "db_repeated_query", "query_params", "user_agent"),
    *("reason", "details", "exception"),
}

_REMEMBERED_CHARS: Final = 256
_HARMLESS: Final = frozenset({int, float, bool, type(None)})

_process_secrets: set[str] = set()
_process_needles: set[str] = set()


def remember(*secrets: str) -> None:
    """Never write these values again, whoever logs them in this process."""
    for secret in secrets:
        written = spellings(secret)
        _process_secrets.update(written)
        _process_needles.update(written)
        _process_needles.update(json.dumps(one, ensure_ascii=False)[1:-1] for one in written)
    _remembered.cache_clear()


def spellings(secret: str) -> set[str]:
    """List the ways in which a secret stands in a text: as it is, quoted for a URL, escaped."""
    if len(secret) < MIN_KNOWN_CHARS:
        return set()
    quotable = secret.encode("utf-8", "replace")
    escaped = {json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    return {secret, quote(quotable), quote_plus(quotable), repr(secret)[1:-1], *escaped}


@lru_cache(maxsize=4096)
def is_sensitive(name: str) -> bool:
    """Tell whether a value under this name is a secret."""
    plain = re.sub(r"[-_. ]", "", name.lower())
    return plain in _WHOLE_NAMES or any(word in plain for word in _NAMES)


def has_known_shape(value: str) -> bool:
    """Tell whether all of a value is recognised as a token by its shape alone."""
    token = _JWT.fullmatch(value)
    return bool(_hide_token(token) == REDACTED if token else _API_KEY.fullmatch(value))


def may_hold_secret(text: str) -> bool:
    """Tell, cheaply, whether a text, as it is or serialised, needs a closer look."""
    # Plain loops: on every line, a generator costs as much as five searches.
    lowered = text.lower()
    for hint in _HINTS:
        if hint in lowered:
            return True
    for needle in _process_needles:  # noqa: SIM110 - see above
        if needle in text:
            return True
    return False


_remembered: Final = lru_cache(maxsize=4096)(may_hold_secret)


def is_suspicious(text: str) -> bool:
    """Tell the same; of short texts, which mostly come again, it is remembered."""
    return _remembered(text) if len(text) <= _REMEMBERED_CHARS else may_hold_secret(text)


def may_hold_secrets(fields: Iterable[tuple[str, Any]], line: bytes) -> bool:
    """Tell the same of fields, with the line that they became.

    Most texts come again: names, ids of models, what a client calls itself. To know them is a
    third of the price of searching the line.
    """
    for name, value in fields:
        kind = type(value)
        if kind is str:
            if is_suspicious(value):
                return True
        elif kind not in _HARMLESS:
            return may_hold_secret(line.decode())
        if name not in FIELD_NAMES and is_suspicious(name):
            return True
    return False


def text(value: str, known: Iterable[str] = ()) -> str:
    """Take every secret out of a text."""
    for secret in sorted((*known, *_process_secrets), key=len, reverse=True):
        value = value.replace(secret, REDACTED)
    return shapes(value)


def shapes(value: str) -> str:
    """Take out what is shaped like a secret."""
    value = _JWT.sub(_hide_token, value)
    for pattern, replacement in _SHAPES:
        value = pattern.sub(replacement, value)
    return value


def _hide_token(found: re.Match[str]) -> str:
    # What begins like a token and has no second part is matched too, or else a text full of such
    # beginnings would take the square of its length in time.
    return REDACTED if "." in found[0].rstrip(".") else found[0]


def event(fields: Mapping[str, Any], known: Iterable[str] = ()) -> dict[str, Any]:
    """Take every secret out of an event whose line may hold one."""
    # The messages of our own events are constant sentences; grep and jq look for them.
    chosen = _CHOSEN if fields.get("event_type") == LOG else _CHOSEN | {"message"}
    return {
        name: REDACTED if is_sensitive(name) else _deep(value, known, name not in chosen)
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
