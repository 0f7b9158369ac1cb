"""What models, their versions and their descriptions may be called."""

import re
import uuid
from typing import Final

from webapp.errors import InvalidInputError

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MAX_DESCRIPTION_CHARS: Final = 2000
LATEST: Final = "latest"


def check_name(name: str) -> None:
    """Refuse a name that could not stand in a path, or that looks like an id."""
    if not NAME.fullmatch(name) or is_id(name):
        raise InvalidInputError(
            "name must match [a-z0-9][a-z0-9._-]{0,63} and not look like a UUID",
            {"field": "name"},
        )


def check_description(description: str | None) -> None:
    """Refuse a description that is too long or has control characters."""
    if description is None:
        return
    plain = description.replace("\n", "").replace("\t", "")
    if len(description) > MAX_DESCRIPTION_CHARS or not all(char.isprintable() for char in plain):
        raise InvalidInputError(
            f"description must be printable text of at most {MAX_DESCRIPTION_CHARS} characters",
            {"field": "description"},
        )


def check_alias(alias: str) -> None:
    """Refuse an alias that could not stand in a path, or that names a version by itself."""
    if not NAME.fullmatch(alias) or alias.isdecimal() or alias == LATEST:
        raise InvalidInputError(
            "an alias must match [a-z0-9][a-z0-9._-]{0,63}, be no number,"
            " and not be latest, which always names the newest version",
            {"field": "alias"},
        )


def is_id(text: str) -> bool:
    """Tell whether a reference is an id and no name."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
