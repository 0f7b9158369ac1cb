import secrets
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from flask import Flask
from sqlalchemy import select

from tests.threads import at_once
from webapp.db.tables import ThrottleCounter, utc_now
from webapp.errors import ServiceUnavailableError, ThrottledError
from webapp.extensions import db
from webapp.services import throttle
from webapp.services.throttle import LoginThrottle
from webapp.settings import Settings, load

REDIS_URL = "redis://127.0.0.1:6379/"
ADA, IP = "ada@example.com", "203.0.113.7"

pytestmark = pytest.mark.usefixtures("app_context")


def settings_with(redis_url: str) -> Settings:
    # The secret keys the counters: with one of its own, each test starts from nothing.
    own = {"instance_path": Path("nowhere"), "jwt_secret_key": secrets.token_hex()}
    return load({}, {"redis_url": redis_url, **own})


@pytest.fixture
def in_database() -> LoginThrottle:
    return LoginThrottle(settings_with(""))


@pytest.fixture(params=["database", "redis"])
def logins(request: pytest.FixtureRequest) -> LoginThrottle:
    if request.param == "database":
        return LoginThrottle(settings_with(""))
    with redis.Redis.from_url(REDIS_URL, socket_connect_timeout=1) as client:
        try:
            client.ping()
        except redis.ConnectionError:
            pytest.skip(f"no Redis answers at {REDIS_URL}")
    return LoginThrottle(settings_with(REDIS_URL))


def fail(logins: LoginThrottle, times: int, email: str = ADA, ip: str = IP) -> None:
    for _ in range(times):
        logins.check(email, ip)
        logins.failed(email, ip)


def is_open(logins: LoginThrottle, email: str = ADA, ip: str = IP) -> bool:
    try:
        logins.check(email, ip)
    except ThrottledError:
        return False
    return True


def test_the_sixth_try_after_five_failures_is_refused(logins: LoginThrottle):
    fail(logins, 5)

    with pytest.raises(ThrottledError) as refusal:
        logins.check(ADA, IP)

    assert refusal.value.retry_after_seconds is not None
    assert 0 < refusal.value.retry_after_seconds <= 15 * 60


def test_other_clients_and_other_addresses_are_not_concerned(logins: LoginThrottle):
    fail(logins, 5)

    assert is_open(logins, ip="203.0.113.8")
    assert is_open(logins, email="bob@example.com")


def test_a_success_forgets_the_failures_before_it(logins: LoginThrottle):
    fail(logins, 4)
    logins.succeeded(ADA, IP)

    fail(logins, 4)

    assert is_open(logins)


def test_spellings_of_one_address_count_together(logins: LoginThrottle):
    for email in ("ada@example.com", "ADA@example.com", " ada@Example.com ", "Ada@example.com"):
        fail(logins, 1, email)
    fail(logins, 1)

    assert not is_open(logins)


def test_fifty_failures_of_a_client_close_every_address_to_it(logins: LoginThrottle):
    for number in range(50):
        fail(logins, 1, email=f"user{number}@example.com")

    assert not is_open(logins, email="another@example.com")
    assert is_open(logins, email="another@example.com", ip="203.0.113.8")


def test_a_success_does_not_forget_the_failures_with_other_addresses(logins: LoginThrottle):
    for number in range(49):
        fail(logins, 1, email=f"user{number}@example.com")
    logins.succeeded(ADA, IP)

    fail(logins, 1)

    assert not is_open(logins, email="another@example.com")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::1", "::2"),
    ],
)
def test_addresses_of_one_network_count_together(
    in_database: LoginThrottle, first: str, second: str
):
    fail(in_database, 5, ip=first)

    assert not is_open(in_database, ip=second)


def test_another_ipv6_network_counts_apart(in_database: LoginThrottle):
    fail(in_database, 5, ip="2001:db8:0:1::1")

    assert is_open(in_database, ip="2001:db8:0:2::1")


@pytest.mark.parametrize("ip", ["", "fe80::1%eth0", "no address"])
def test_a_client_without_a_plain_address_is_counted_too(in_database: LoginThrottle, ip: str):
    fail(in_database, 5, ip=ip)

    assert not is_open(in_database, ip=ip)


def test_after_fifteen_minutes_the_client_may_try_again(
    in_database: LoginThrottle, monkeypatch: pytest.MonkeyPatch
):
    start = utc_now()
    now = start
    monkeypatch.setattr(throttle, "utc_now", lambda: now)
    fail(in_database, 1)
    now = start + timedelta(minutes=14)
    fail(in_database, 4)
    with pytest.raises(ThrottledError) as refusal:
        in_database.check(ADA, IP)
    assert refusal.value.retry_after_seconds == 60

    now = start + timedelta(minutes=15, seconds=1)
    fail(in_database, 5)

    assert not is_open(in_database)


def test_failures_at_the_same_time_are_all_counted(app_context: Flask, logins: LoginThrottle):
    results = at_once(app_context, *[lambda: logins.failed(ADA, IP)] * 12)

    # Five wrong guesses get the ordinary answer, the others learn nothing.
    assert [type(result) for result in results].count(ThrottledError) == 7
    assert results.count(None) == 5


def test_a_right_guess_that_passed_the_check_with_many_wrong_ones_is_refused(
    logins: LoginThrottle,
):
    logins.check(ADA, IP)
    fail(logins, 5)

    with pytest.raises(ThrottledError):
        logins.succeeded(ADA, IP)

    assert not is_open(logins)


def test_logins_that_succeed_at_the_same_time_are_not_throttled(
    app_context: Flask, logins: LoginThrottle
):
    def log_in() -> None:
        logins.check(ADA, IP)
        logins.succeeded(ADA, IP)

    assert at_once(app_context, *[log_in] * 8) == [None] * 8


def test_the_table_holds_neither_what_was_typed_nor_where(in_database: LoginThrottle):
    fail(in_database, 2, email="my secret password \ud800")

    keys = list(db.session.scalars(select(ThrottleCounter.key)))

    assert len(keys) == 2
    assert not any(word in key for key in keys for word in ("secret", "203.0.113"))


def test_expired_counters_are_swept(in_database: LoginThrottle, monkeypatch: pytest.MonkeyPatch):
    start = utc_now()
    now = start
    monkeypatch.setattr(throttle, "utc_now", lambda: now)
    fail(in_database, 3)
    now = start + timedelta(minutes=16)

    fail(in_database, 1, email="bob@example.com", ip="203.0.113.8")

    assert len(list(db.session.scalars(select(ThrottleCounter.key)))) == 2


@pytest.mark.parametrize("act", ["check", "failed", "succeeded"])
def test_a_redis_that_does_not_answer_makes_the_service_unavailable(act: str):
    logins = LoginThrottle(settings_with("redis://127.0.0.1:1/"))

    with pytest.raises(ServiceUnavailableError):
        getattr(logins, act)(ADA, IP)


def test_a_redis_behind_a_socket_is_understood():
    logins = LoginThrottle(settings_with("unix:///nowhere/redis.sock"))

    with pytest.raises(ServiceUnavailableError):
        logins.check(ADA, IP)
