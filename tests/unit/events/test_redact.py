"""No secret reaches a line: by its name, by its shape, or by its value."""

import base64
import itertools
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.unit.events.conftest import Log, finish
from webapp.events import canonical, redact
from webapp.events.actions import record_action

JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    ".eyJzdWIiOiJjYW5hcnkiLCJuYW1lIjoiSm9obiJ9.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
)
API_KEY = "pel_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"
SECRET = "hunter2-and-more"
NAMES = [
    *("password", "PASSWORD", "new_password", "passwd", "passphrase", "db_pwd", "secret"),
    *("client-secret", "token", "access_token", "X-Auth-Token", "Authorization", "api_key"),
    *("apiKey", "X-API-Key", "api key", "cookie", "Set-Cookie", "credentials", "private_key"),
    *("AccessKey", "jwt_token"),
]


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_process_secrets", set())
    monkeypatch.setattr(redact, "_process_needles", set())


@pytest.mark.parametrize("name", NAMES)
def test_values_under_a_secrets_name_are_hidden_at_any_depth(log: Log, name: str) -> None:
    values: list[Any] = [SECRET, [SECRET], {"a": SECRET}, SECRET.encode(), ("x", SECRET), 12345678]
    for value in values:
        log.event("message", extra={name: value, "details": {"a": [{name: value}], "kept": "kept"}})
    text = b"".join(log.lines()).decode()
    assert SECRET not in text
    assert "12345678" not in text
    assert text.count('"kept":"kept"') == len(values)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "form",
    [
        "{name}={secret}",
        "{name}: {secret}",
        "before {name} = {secret}, after",
        "{{'{name}': '{secret}', 'a': 1}}",
        '{{"{name}": "{secret}", "a": 1}}',
        r'"{{\"{name}\": \"{secret}\"}}"',
        "{name}=b'{secret}'",
        "{name}=['{secret}', '{secret}']",
        "[('{name}', '{secret}')]",
        "('{name}', b'{secret}')",
        "{name}=('{secret}',)",
        '{name}="{secret} cut of',
        "?a=1&{name}={secret}&b=2",
        "{name}%3D{secret}",
        "{name} => {secret}",
        "UPDATE users SET {name} = '{secret}' WHERE id = 1",
    ],
)
def test_values_after_a_secrets_name_are_hidden_in_texts(log: Log, name: str, form: str) -> None:
    text = form.format(name=name, secret=SECRET)
    log.logger.info(text, extra={"query": text, "anything": [text], "path": text})
    try:
        raise ValueError(text)
    except ValueError:
        log.logger.exception("failed")
    assert SECRET.encode() not in b"".join(log.lines())


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Digest username=x, response={SECRET}",
        f'Authorization: Digest username="x", response="{SECRET}"',
        f"Authorization: Custom {SECRET}",
        f"'Authorization': 'Custom {SECRET}'",
        f"Cookie: a=b; session={SECRET}; c=d",
        f"Bearer {SECRET}",
        f"bearer%20{SECRET}",
        f"Basic {base64.b64encode(SECRET.encode()).decode()}",
        f"postgresql://user:{SECRET}@host/db",
        f"postgresql+psycopg://user:a/b@{SECRET}@host:5432/db",
        f"redis://:{SECRET}@host",
        JWT,
        f"x{JWT}y",
        f"?next=%2F{JWT}",
        API_KEY,
        f"'\\n{API_KEY}'",
        f"%20{API_KEY}",
        f"key={API_KEY};",
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aHVudGVyMi1hbmQtbW9yZQ",
    ],
)
def test_what_is_shaped_like_a_secret_is_hidden_everywhere(log: Log, text: str) -> None:
    log.logger.info(text, extra={"user_agent": text, "details": {text: [text]}, "query": text})
    try:
        raise KeyError(text)
    except KeyError:
        log.logger.exception("failed")
    written = b"".join(log.lines()).decode()
    encoded = base64.b64encode(SECRET.encode()).decode()
    for secret in (SECRET, encoded, JWT, JWT.split(".")[2], API_KEY, API_KEY[4:], "aHVudGVyMi1hb"):
        assert secret not in written
    assert redact.REDACTED in written


@pytest.mark.parametrize(
    "text",
    [
        "a bearer token is needed",
        "password must have 8 to 1024 characters",
        "the token has expired",
        "scalpel_segmentation_1",
        "http://localhost:8000/api/v1/docs?next=a@b",
        "user@example.com",
        "SELECT users.id, users.password_hash FROM users WHERE users.email = ?",
        "eyJ is how they begin. Like eyJhbGciOi",
        "monkey business: 7 keys, 3 tokens",
    ],
)
def test_ordinary_text_is_left_alone(log: Log, text: str) -> None:
    assert log.event(text)["message"] == text


@pytest.mark.parametrize("secret", [SECRET, 'quo"te\\back', "späte Rübe", "new\nline", "a+b/c=d&e"])
def test_a_secret_of_the_request_is_hidden_by_its_value(
    log: Log, open_event: Callable[..., canonical.RequestEvent], secret: str
) -> None:
    open_event(slow_seconds=1).conceal([secret])
    forms = [secret, repr(secret), quote(secret), quote(secret, safe=""), str({"k": secret})]
    for form in forms:
        log.logger.info(form, extra={"unknown": form, "details": {form: [form]}, "path2": form})
        try:
            raise ValueError(form)
        except ValueError:
            log.logger.exception("failed")
    text = b"".join(log.lines()).decode()
    for form in (secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1]):
        assert form not in text
    canonical.leave()
    assert secret in log.event(secret)["message"], "only that request knows it for a secret"


@pytest.mark.parametrize("name", ["method", "path", "client_ip"])
def test_what_a_client_may_choose_of_a_request_is_searched_for_secrets(
    full_log: Log, open_event: Callable[[], canonical.RequestEvent], name: str
) -> None:
    event = open_event()
    event.context[name] = f"password={SECRET}"
    event.start({})
    finish(event, 200)
    started, completed = full_log.events()
    assert started[name] == completed[name] == "password=[redacted]"


def test_a_secret_of_the_process_is_hidden_wherever_it_is_logged(log: Log) -> None:
    redact.remember(SECRET, 'with "quotes"')
    log.logger.info("the value is %s", SECRET, extra={"anything": {"a": 'with "quotes"'}})
    assert SECRET.encode() not in log.lines()[0]
    assert b"quotes" not in log.lines()[0]


def test_short_values_are_no_known_secrets(
    log: Log, open_event: Callable[..., canonical.RequestEvent]
) -> None:
    open_event().conceal(["", "a", "the"])
    assert log.event("the cat sat")["message"] == "the cat sat"


@pytest.fixture
def hide_and_seek(
    full_log: Log, open_event: Callable[..., canonical.RequestEvent]
) -> Callable[[str], dict[str, Any]]:
    """Send a value as a secret, fail to log in, and read the line of that."""

    def play(secret: str) -> dict[str, Any]:
        open_event().conceal([secret])
        record_action("login", outcome="failure", reason="wrong", email="user@example.com")
        return full_log.events()[-1]

    return play


@pytest.mark.parametrize(
    "secret",
    [
        *(
            "user_action",
            "failure",
            "WARNING",
            "log",
            "User action: login",
            "webapp.events.actions",
        ),
        *("user@example.com", "request-0001", "10.0.0.1", "/a/<x>", "event_type", "record_action"),
    ],
)
def test_nobody_hides_an_event_by_sending_its_words_as_a_secret(
    hide_and_seek: Callable[[str], dict[str, Any]], secret: str
) -> None:
    event = hide_and_seek(secret)
    assert (
        event.items()
        >= {
            "level": "WARNING",
            "logger": "webapp.events.actions",
            "message": "User action: login",
            "event_type": "user_action",
            "action": "login",
            "outcome": "failure",
            "email": "user@example.com",
            "request_id": "request-0001",
            "route": "/a/<x>",
            "client_ip": "10.0.0.1",
        }.items()
    )


def test_redaction_takes_time_in_proportion_to_the_text() -> None:
    starts = ("eyJ", "password", "token=", "://", "pel_", "Bearer ", "cookie:", "\\", "'", "[", "a")
    for first, second in itertools.product(starts, repeat=2):
        text = (first + second) * 20_000
        started = time.perf_counter()
        redact.shapes(text[:50_000])
        assert time.perf_counter() - started < 2, (first, second)
