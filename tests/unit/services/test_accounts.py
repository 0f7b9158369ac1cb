import time

import pytest
from argon2 import PasswordHasher
from flask import Flask
from sqlalchemy import func, select

from tests.threads import at_once
from webapp.db.tables import ModelVersion, RegisteredModel, User
from webapp.errors import AuthenticationError, ConflictError, InvalidInputError, UserNotFoundError
from webapp.extensions import db
from webapp.services import accounts

pytestmark = pytest.mark.usefixtures("app_context")

PASSWORD = "correct horse"


@pytest.fixture
def ada(app_context: Flask) -> User:
    return accounts.register("ada@example.com", PASSWORD)


@pytest.fixture
def admin(app_context: Flask) -> User:
    return accounts.create_user("admin@localhost", PASSWORD, "admin")


def seconds_of_refusal(email: str) -> float:
    durations = []
    for _ in range(5):
        start = time.perf_counter()
        with pytest.raises(AuthenticationError):
            accounts.authenticate(email, "wrong password")
        durations.append(time.perf_counter() - start)
    return sorted(durations)[2]


def test_who_registered_can_log_in_however_the_address_is_spelled():
    registered = accounts.register(" Ada@Example.COM ", PASSWORD)

    assert accounts.authenticate("ada@example.com", PASSWORD).id == registered.id
    assert accounts.authenticate("ADA@example.com", PASSWORD).id == registered.id
    assert (registered.email, registered.role) == ("ada@example.com", "user")


def test_a_password_is_stored_as_an_argon2id_hash(ada: User):
    assert ada.password_hash.startswith("$argon2id$")
    assert PASSWORD not in ada.password_hash


@pytest.mark.usefixtures("ada")
def test_an_address_has_one_account():
    with pytest.raises(ConflictError):
        accounts.register("ADA@example.com", "another password")

    assert accounts.authenticate("ada@example.com", PASSWORD)


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@ada@example.com",
        "ada @example.com",
        "ada@example..com",
        "ada@example.com\x00",
        "a\x1bda@example.com",
        "\ud800@example.com",
        "a" * 65 + "@example.com",
        "a@" + "b" * 253,
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(email: str):
    with pytest.raises(InvalidInputError) as refusal:
        accounts.register(email, PASSWORD)

    assert refusal.value.details == {"field": "email"}
    assert not email or email not in refusal.value.message


@pytest.mark.parametrize("email", ["admin@localhost", "a@" + "b" * 252, "ünï+tag@exämple.org"])
def test_what_may_be_an_address_is_taken(email: str):
    assert accounts.register(email, PASSWORD).email == email


@pytest.mark.parametrize("length", [8, 1024])
def test_a_password_of_8_to_1024_characters_is_taken(length: int):
    accounts.register("ada@example.com", "x" * length)

    assert accounts.authenticate("ada@example.com", "x" * length)


@pytest.mark.parametrize("length", [0, 7, 1025])
def test_a_shorter_or_longer_password_is_refused(length: int):
    with pytest.raises(InvalidInputError, match="8 to 1024"):
        accounts.register("ada@example.com", "x" * length)


def test_a_lone_surrogate_is_a_character_of_a_password_like_any_other(ada: User):
    with pytest.raises(AuthenticationError):
        accounts.authenticate(ada.email, "\ud800" * 8)
    accounts.set_password(ada.email, "\ud800" * 8)

    assert accounts.authenticate(ada.email, "\ud800" * 8)


@pytest.mark.usefixtures("ada")
def test_wrong_password_unknown_address_and_disabled_account_get_one_answer():
    accounts.register("off@example.com", PASSWORD)
    accounts.disable("off@example.com")
    messages = set()
    for email, password in [
        ("ada@example.com", "wrong password"),
        ("nobody@example.com", PASSWORD),
        ("off@example.com", PASSWORD),
        ("not an address\x00", PASSWORD),
    ]:
        with pytest.raises(AuthenticationError) as refusal:
            accounts.authenticate(email, password)
        messages.add((refusal.value.message, tuple(refusal.value.details)))

    assert messages == {(accounts.WRONG_CREDENTIALS, ())}


@pytest.mark.usefixtures("ada")
def test_an_unknown_address_takes_as_long_as_a_wrong_password():
    accounts.register("off@example.com", PASSWORD)
    accounts.disable("off@example.com")
    wrong_password = seconds_of_refusal("ada@example.com")

    # Without a hash they take less than a twentieth.
    assert seconds_of_refusal("nobody@example.com") > wrong_password / 3
    assert seconds_of_refusal("off@example.com") > wrong_password / 3


def test_a_login_renews_a_hash_made_with_other_parameters(ada: User):
    ada.password_hash = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    db.session.commit()

    accounts.authenticate(ada.email, PASSWORD)

    assert "m=19456,t=2,p=1" in ada.password_hash
    assert accounts.authenticate(ada.email, PASSWORD)


def test_another_password_replaces_the_old_one(ada: User):
    accounts.set_password(ada.id, "another password")

    assert accounts.authenticate(ada.email, "another password")
    with pytest.raises(AuthenticationError):
        accounts.authenticate(ada.email, PASSWORD)


def test_a_bad_new_password_changes_nothing(ada: User):
    with pytest.raises(InvalidInputError):
        accounts.set_password(ada.email, "short")

    assert accounts.authenticate(ada.email, PASSWORD)


def test_an_enabled_account_can_log_in_again(ada: User):
    accounts.disable(ada.email)
    accounts.enable(ada.email)

    assert accounts.authenticate(ada.email, PASSWORD)


def test_an_account_is_found_by_id_and_by_address(ada: User):
    assert accounts.get_user(ada.id).id == ada.id
    assert accounts.get_user("Ada@example.com").id == ada.id


@pytest.mark.parametrize("reference", ["nobody@example.com", "no-such-id", "\x00", "\x00@b"])
def test_no_such_user_is_an_error_of_its_own(reference: str):
    for act in (accounts.get_user, accounts.disable, accounts.enable, accounts.delete_user):
        with pytest.raises(UserNotFoundError):
            act(reference)


def test_accounts_are_listed_oldest_first(admin: User, ada: User):
    assert [user.email for user in accounts.list_users()] == [admin.email, ada.email]


@pytest.mark.usefixtures("admin")
def test_a_role_is_user_or_admin(ada: User):
    with pytest.raises(InvalidInputError, match="user, admin"):
        accounts.set_role(ada.email, "owner")

    assert accounts.set_role(ada.email, "admin").role == "admin"
    assert accounts.set_role(ada.email, "user").role == "user"


def test_deleting_a_user_deletes_the_models_too(ada: User):
    model = RegisteredModel(owner_id=ada.id, name="iris")
    model.versions.append(ModelVersion(version=1, digest="0" * 64, bytes=1, passport={}))
    db.session.add(model)
    db.session.commit()

    accounts.delete_user(ada.email)

    for table in (User, RegisteredModel, ModelVersion):
        assert db.session.scalar(select(func.count()).select_from(table)) == 0


@pytest.mark.parametrize("remaining", ["nobody", "disabled admin", "user"])
def test_the_last_enabled_admin_stays(admin: User, remaining: str):
    if remaining != "nobody":
        role = remaining.removeprefix("disabled ")
        accounts.create_user("other@example.com", PASSWORD, role)
    if remaining == "disabled admin":
        accounts.disable("other@example.com")

    with pytest.raises(ConflictError, match="last enabled admin cannot be demoted"):
        accounts.set_role(admin.email, "user")
    with pytest.raises(ConflictError, match="last enabled admin cannot be disabled"):
        accounts.disable(admin.email)
    with pytest.raises(ConflictError, match="last enabled admin cannot be deleted"):
        accounts.delete_user(admin.email)

    user = accounts.authenticate(admin.email, PASSWORD)
    assert user.role == "admin"


def test_an_admin_can_go_while_another_one_stays(admin: User):
    accounts.create_user("other@example.com", PASSWORD, "admin")

    accounts.delete_user(admin.email)

    assert [user.email for user in accounts.list_users()] == ["other@example.com"]


def test_two_admins_demoted_at_once_leave_one(app_context: Flask):
    for round_ in range(5):
        first, second = (
            accounts.create_user(f"{name}{round_}@example.com", PASSWORD, "admin").email
            for name in ("first", "second")
        )
        results = at_once(
            app_context,
            lambda email=first: accounts.set_role(email, "user"),
            lambda email=second: accounts.delete_user(email),
        )
        db.session.rollback()
        admins = [user.email for user in accounts.list_users() if user.role == "admin"]
        assert len(admins) == 1
        assert [type(result) for result in results].count(ConflictError) == 1
        survivor = accounts.get_user(admins[0])
        db.session.delete(survivor)
        db.session.commit()


def test_the_first_admin_gets_a_password_that_works():
    made = accounts.ensure_first_admin("admin@localhost", None)

    assert made is not None
    user, password = made
    assert user.role == "admin"
    assert password is not None
    assert accounts.authenticate("admin@localhost", password)


def test_the_first_admin_can_have_a_chosen_password():
    made = accounts.ensure_first_admin("admin@localhost", PASSWORD)

    assert made is not None
    assert made[1] is None
    assert accounts.authenticate("admin@localhost", PASSWORD)


def test_there_is_no_first_admin_where_one_exists(admin: User):
    assert accounts.ensure_first_admin("second@localhost", None) is None
    assert [user.email for user in accounts.list_users()] == [admin.email]
