"""User actions say who did what; an address field does not give a password away."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.events.conftest import Log
from webapp.events.actions import record_action


@pytest.fixture
def act(full_log: Log) -> Callable[..., dict[str, Any]]:
    """Record an action and read its line."""

    def record(*args: Any, **options: Any) -> dict[str, Any]:
        record_action(*args, **options)
        return full_log.events()[-1]

    return record


def test_a_success_is_info_and_a_failure_a_warning(act: Callable[..., dict[str, Any]]) -> None:
    done = act("upload_model", details={"bytes": 5}, model_id="m", actor="cli", user_id="u")
    assert (
        done.items()
        >= {
            "level": "INFO",
            "message": "User action: upload_model",
            "event_type": "user_action",
            "action": "upload_model",
            "outcome": "success",
            "details": {"bytes": 5},
            "model_id": "m",
            "actor": "cli",
            "user_id": "u",
            "function": "record",  # who acted, not the one who wrote it down
        }.items()
    )
    refused = act("login", outcome="failure", reason="wrong password")
    assert (refused["level"], refused["reason"]) == ("WARNING", "wrong password")
    assert "details" not in refused


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("user@example.com", "user@example.com"),
        (" User@Example.COM ", "user@example.com"),
        ("first.last+tag@mail.example.co.uk", "first.last+tag@mail.example.co.uk"),
        ("admin@localhost", "admin@localhost"),
        ("correct horse battery", None),
        ("P@ssw0rd", None),
        ("P@ssw0rd!", None),
        ("my@pass.w0rd!", None),
        ("a@b@example.com", None),
        ("", None),
        (None, None),
    ],
)
def test_of_a_failed_login_only_an_address_is_written(
    act: Callable[..., dict[str, Any]], typed: str | None, written: str | None
) -> None:
    assert act("login", outcome="failure", email=typed).get("email") == written


def test_of_a_failure_an_address_that_has_an_account_is_written(
    act: Callable[..., dict[str, Any]],
) -> None:
    failed = act("login", outcome="failure", email=" Root@Intranet ", has_account=True)
    assert failed["email"] == "root@intranet"
    assert "has_account" not in failed


def test_of_a_login_that_succeeded_the_address_is_known(
    act: Callable[..., dict[str, Any]],
) -> None:
    assert act("login", email="admin@localhost")["email"] == "admin@localhost"
