import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from flask import Flask
from flask_jwt_extended import decode_token
from sqlalchemy import event, insert, select

from tests.threads import at_once
from webapp.db.tables import RevokedToken, User, new_id, utc_now
from webapp.errors import AuthenticationError
from webapp.extensions import db
from webapp.remembered import Remembered
from webapp.services import accounts, tokens
from webapp.services.tokens import Identity, TokenPair

pytestmark = pytest.mark.usefixtures("app_context")

PASSWORD = "correct horse"


@pytest.fixture
def ada(app_context: Flask) -> User:
    return accounts.register("ada@example.com", PASSWORD)


def claims_of(pair: TokenPair) -> tuple[dict[str, Any], dict[str, Any]]:
    return decode_token(pair.access_token), decode_token(pair.refresh_token)


def is_accepted(claims: dict[str, Any]) -> bool:
    try:
        tokens.identify(claims)
    except AuthenticationError:
        return False
    return True


@contextmanager
def counted_queries() -> Iterator[list[str]]:
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    yield statements
    event.remove(db.engine, "before_cursor_execute", note)


def test_a_token_tells_whose_it_is(ada: User):
    access, _ = claims_of(tokens.issue_pair(ada))

    assert tokens.identify(access) == Identity(ada.id, "ada@example.com", "user")


def test_a_pair_is_what_a_client_expects(ada: User):
    pair = tokens.issue_pair(ada)

    assert pair.as_dict() == {
        "access_token": pair.access_token,
        "refresh_token": pair.refresh_token,
        "token_type": "Bearer",
        "expires_in": 900,
    }
    assert pair.access_token not in repr(pair)
    assert pair.refresh_token not in repr(pair)


def test_the_claims_are_complete_and_hold_no_role(ada: User):
    access, refresh = claims_of(tokens.issue_pair(ada))

    for claims, kind, life in ((access, "access", 900), (refresh, "refresh", 30 * 86_400)):
        assert claims["sub"] == ada.id
        assert (claims["iss"], claims["aud"], claims["type"]) == ("pellucid", "pellucid", kind)
        assert claims["exp"] - claims["iat"] == pytest.approx(life, abs=2)
        assert "role" not in claims
    assert access["sid"] == refresh["sid"]
    assert access["jti"] != refresh["jti"]


@pytest.mark.parametrize(
    ("change", "algorithm"),
    [
        ({"aud": None}, "HS256"),
        ({"aud": "another service"}, "HS256"),
        ({"iss": None}, "HS256"),
        ({"iss": "another service"}, "HS256"),
        ({"exp": 1}, "HS256"),
        ({"sub": 7}, "HS256"),
        ({}, "HS512"),
        ({}, "none"),
    ],
)
def test_a_token_of_another_kind_is_not_decoded(
    app_context: Flask, ada: User, change: dict[str, Any], algorithm: str
):
    access, _ = claims_of(tokens.issue_pair(ada))
    claims = {name: value for name, value in (access | change).items() if value is not None}
    key = "" if algorithm == "none" else app_context.config["JWT_SECRET_KEY"]

    with pytest.raises(jwt.PyJWTError):
        decode_token(jwt.encode(claims, key, algorithm=algorithm))


@pytest.mark.parametrize("missing", ["jti", "sid", "iat", "sub", "exp"])
def test_a_token_without_one_of_our_claims_is_refused(ada: User, missing: str):
    access, _ = claims_of(tokens.issue_pair(ada))
    assert is_accepted(access), "and so it is remembered by its jti"
    del access[missing]

    with pytest.raises(AuthenticationError, match="lacks a claim"):
        tokens.identify(access)


def test_a_role_is_the_one_that_the_account_has_now(ada: User):
    access, _ = claims_of(tokens.issue_pair(ada))
    assert tokens.identify(access).role == "user"

    accounts.set_role(ada.email, "admin")

    assert tokens.identify(access).role == "admin"


def test_logging_out_ends_the_session_and_no_other(ada: User):
    access, refresh = claims_of(tokens.issue_pair(ada))
    elsewhere, _ = claims_of(tokens.issue_pair(ada))
    assert is_accepted(access)

    tokens.revoke_session(access)
    tokens.revoke_session(access)  # twice is no error

    assert not is_accepted(access)
    assert not is_accepted(refresh)
    with pytest.raises(AuthenticationError):
        tokens.refresh(refresh)
    assert is_accepted(elsewhere)


def test_a_revoked_token_leaves_its_session_alive(ada: User):
    access, refresh = claims_of(tokens.issue_pair(ada))

    tokens.revoke(access["jti"], ada.id, datetime.fromtimestamp(access["exp"], UTC))

    assert not is_accepted(access)
    assert is_accepted(refresh)


@pytest.mark.parametrize("change", [accounts.disable, accounts.delete_user])
def test_tokens_of_a_disabled_or_deleted_user_are_refused(ada: User, change: Any):
    access, refresh = claims_of(tokens.issue_pair(ada))
    assert is_accepted(access)

    change(ada.email)

    assert not is_accepted(access)
    with pytest.raises(AuthenticationError):
        tokens.refresh(refresh)


def test_enabling_an_account_does_not_revive_its_sessions(ada: User):
    access, _ = claims_of(tokens.issue_pair(ada))

    accounts.disable(ada.email)
    accounts.enable(ada.email)

    with pytest.raises(AuthenticationError, match=r"^the account's sessions were ended: sign in"):
        tokens.identify(access)


def test_a_changed_password_ends_old_sessions_and_not_the_next_one(ada: User):
    before, refresh_before = claims_of(tokens.issue_pair(ada))
    accounts.set_password(ada.email, "another password")
    after, refresh_after = claims_of(tokens.issue_pair(ada))

    assert int(before["iat"]) >= int(after["iat"]) - 1  # as good as the same second
    assert not is_accepted(before)
    assert is_accepted(after)
    with pytest.raises(AuthenticationError):
        tokens.refresh(refresh_before)
    assert tokens.refresh(refresh_after)


def test_a_token_from_the_very_moment_of_the_change_is_accepted(ada: User):
    access, _ = claims_of(tokens.issue_pair(ada))
    moment = utc_now().replace(microsecond=0)
    ada.tokens_valid_after = moment
    db.session.commit()

    assert is_accepted(access | {"iat": int(moment.timestamp()), "jti": new_id()})
    assert not is_accepted(access | {"iat": int(moment.timestamp()) - 1, "jti": new_id()})


def test_a_known_token_costs_no_query_whether_accepted_or_refused(ada: User):
    good, _ = claims_of(tokens.issue_pair(ada))
    bad, _ = claims_of(tokens.issue_pair(ada))
    tokens.revoke_session(bad)
    with counted_queries() as queries:
        assert (is_accepted(good), is_accepted(bad)) == (True, False)
        first = len(queries)
        for _ in range(10):
            assert (is_accepted(good), is_accepted(bad)) == (True, False)

    assert first == 2
    assert len(queries) == first


def test_what_another_process_changed_is_noticed_within_two_seconds(
    ada: User, monkeypatch: pytest.MonkeyPatch
):
    now = 0.0
    memory: Remembered[str, Identity | str] = Remembered(
        tokens.IDENTITY_CACHE_SECONDS, timer=lambda: now
    )
    monkeypatch.setattr(tokens, "_identities", memory)
    access, _ = claims_of(tokens.issue_pair(ada))
    assert is_accepted(access)
    with db.engine.begin() as connection:
        connection.execute(
            insert(RevokedToken).values(jti=access["sid"], user_id=ada.id, expires_at=utc_now())
        )
    now = 1.0
    assert is_accepted(access)  # or the next line would prove nothing

    now = 2.0
    assert not is_accepted(access)


def test_a_refresh_keeps_the_session_and_uses_the_token_up(ada: User):
    old_access, refresh = claims_of(tokens.issue_pair(ada))

    access, next_refresh = claims_of(tokens.refresh(refresh))

    assert access["sid"] == next_refresh["sid"] == refresh["sid"]
    assert is_accepted(access)
    assert is_accepted(old_access)
    with pytest.raises(AuthenticationError):
        tokens.refresh(refresh)
    assert tokens.refresh(next_refresh)


def test_an_access_token_cannot_refresh(ada: User):
    access, _ = claims_of(tokens.issue_pair(ada))

    with pytest.raises(AuthenticationError, match="refresh token"):
        tokens.refresh(access)


def test_of_refreshes_with_one_token_at_once_exactly_one_succeeds(app_context: Flask, ada: User):
    for _ in range(5):
        _, refresh = claims_of(tokens.issue_pair(ada))

        results = at_once(app_context, *[lambda claims=refresh: tokens.refresh(claims)] * 4)

        kinds = sorted(type(result).__name__ for result in results)
        assert kinds == ["AuthenticationError"] * 3 + ["TokenPair"]


def test_a_logout_also_ends_what_a_refresh_issues_after_it(ada: User):
    access, refresh = claims_of(tokens.issue_pair(ada))
    issued = tokens.refresh(refresh)

    tokens.revoke_session(access)

    assert not any(map(is_accepted, claims_of(issued)))


def test_revocations_are_dropped_days_after_the_token_expired(ada: User):
    def kept() -> set[str]:
        with db.engine.connect() as connection:
            return set(connection.scalars(select(RevokedToken.jti)))

    long_ago, recently = utc_now() - timedelta(days=3), utc_now() - timedelta(days=1)
    tokens.revoke("long ago", ada.id, long_ago)
    tokens.revoke("recently", ada.id, recently)

    tokens.revoke("now", ada.id, utc_now())

    assert kept() == {"recently", "now"}


def test_a_session_that_is_named_is_kept(ada: User):
    access, _ = claims_of(tokens.issue_pair(ada, sid="a session"))

    assert access["sid"] == "a session"
    assert access["iat"] == pytest.approx(time.time(), abs=5)
