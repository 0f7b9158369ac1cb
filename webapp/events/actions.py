"""What people did: one line for each action, whoever does it and however."""

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from webapp.events import schema

logger = logging.getLogger(__name__)

# What was typed into an e-mail field may be a password, with an @ in it even; an address of a less
# usual shape is written only if it has an account.
_EMAIL: Final = re.compile(
    r"[^\s@\"(),:;<>\[\]\\]{1,64}@(localhost|([\w-]{1,63}\.){1,8}[a-z-]{2,63})"
)


def record_action(
    action: str,
    *,
    outcome: str = "success",
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
    email: str | None = None,
    has_account: bool = False,
    user_id: str | None = None,
    actor: str | None = None,
    **facts: Any,
) -> None:
    """Write a user action: INFO when it succeeded, WARNING when it did not.

    ``has_account`` says of an action that failed that the address is an account's for certain.
    """
    address = email.strip().lower() if email else ""
    trusted = outcome == "success" or has_account or bool(_EMAIL.fullmatch(address))
    known = {
        "reason": reason,
        "details": dict(details) if details else None,
        "email": address if address and trusted else None,
        "user_id": user_id,
        "actor": actor,
    }
    logger.log(
        logging.INFO if outcome == "success" else logging.WARNING,
        f"User action: {action}",
        extra={
            "event_type": schema.USER_ACTION,
            "action": action,
            "outcome": outcome,
            **{name: value for name, value in known.items() if value is not None},
            **facts,
        },
        stacklevel=2,
    )
