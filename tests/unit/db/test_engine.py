import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy
from flask import Flask
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError

from tests.database import SQLITE, dispose, make_app, migrate
from tests.threads import at_once
from webapp.db import engine
from webapp.db.engine import write_transaction
from webapp.db.tables import ModelVersion, RegisteredModel, User
from webapp.extensions import db


def add_user(email: str = "ada@example.com") -> User:
    user = User(email=email, password_hash="-")
    db.session.add(user)
    db.session.commit()
    return user


def add_model(owner: User) -> RegisteredModel:
    model = RegisteredModel(owner_id=owner.id, name="iris")
    db.session.add(model)
    db.session.commit()
    return model


@pytest.fixture
def file(database_url: str) -> Path:
    if not database_url.startswith(SQLITE):
        pytest.skip("only on SQLite")
    return Path(database_url.removeprefix(SQLITE))


def test_a_missing_file_is_an_error_and_stays_missing(file: Path):
    file.unlink()
    app = make_app(f"{SQLITE}{file}")

    with app.app_context(), pytest.raises(OperationalError, match="unable to open"):
        db.session.scalar(select(User.id))

    assert not file.exists()


def test_a_file_name_may_hold_what_a_uri_treats_specially(tmp_path: Path):
    url = f"{SQLITE}{tmp_path}/a #50% ä.db"
    migrate(url)
    app = make_app(url)

    with app.app_context():
        add_user()

    dispose(app)
    assert (tmp_path / "a #50% ä.db").exists()


def test_a_new_file_is_readable_by_its_owner_alone(tmp_path: Path):
    path = tmp_path / "instance" / "pellucid.db"

    migrate(f"{SQLITE}{path}")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_a_reference_to_nothing_is_refused(app_context: Flask):
    db.session.add(RegisteredModel(owner_id="nobody", name="iris"))

    with pytest.raises(IntegrityError):
        db.session.commit()


def test_readers_go_on_while_a_writer_holds_the_lock(bare_app: Flask):
    with bare_app.app_context():
        add_user()
    locked, release = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with write_transaction() as session:
            session.execute(update(User).values(email="new@example.com"))
            locked.set()
            release.wait(10)

    def read() -> tuple[str | None, float]:
        locked.wait(10)
        start = time.monotonic()
        email = db.session.scalar(select(User.email))
        release.set()
        return email, time.monotonic() - start

    _, seen = at_once(bare_app, write_slowly, read)

    assert isinstance(seen, tuple)
    assert seen[0] == "ada@example.com"
    assert seen[1] < 1


def test_only_a_write_begins_a_transaction_and_takes_the_lock_with_it(
    app_context: Flask, file: Path
):
    add_user()
    with db.engine.connect() as connection:
        statements: list[str] = []
        driver = connection.connection.dbapi_connection
        assert driver is not None
        driver.set_trace_callback(statements.append)
        connection.scalar(select(User.id))
        connection.execute(update(User).values(role="admin"))
        connection.commit()
        driver.set_trace_callback(None)

    assert [line.split()[0] for line in statements] == ["SELECT", "BEGIN", "UPDATE", "COMMIT"]
    assert statements[1].strip() == "BEGIN IMMEDIATE"


def test_writers_wait_for_each_other(bare_app: Flask):
    with bare_app.app_context():
        user_id = add_user().id

    def count() -> None:
        for _ in range(10):
            # Reading first is what makes a plain BEGIN fail at the write that follows.
            db.session.scalar(select(User.email))
            db.session.execute(
                update(User)
                .where(User.id == user_id)
                .values(password_hash=User.password_hash + "x")
            )
            db.session.commit()

    assert at_once(bare_app, *[count] * 4) == [None] * 4

    with bare_app.app_context():
        assert db.session.get_one(User, user_id).password_hash == "-" + 40 * "x"


def test_what_is_decided_in_a_write_transaction_still_holds_when_written(bare_app: Flask):
    with bare_app.app_context():
        model_id = add_model(add_user()).id

    def take_versions() -> list[int]:
        taken = []
        for _ in range(10):
            db.session.get_one(RegisteredModel, model_id)  # what the request saw may be old
            with write_transaction() as session:
                model = session.get_one(RegisteredModel, model_id, with_for_update=True)
                taken.append(model.next_version)
                model.next_version += 1
        return taken

    results = at_once(bare_app, *[take_versions] * 4)

    taken = [version for result in results if isinstance(result, list) for version in result]
    assert sorted(taken) == list(range(1, 41))


def test_a_write_transaction_that_raises_leaves_nothing(app_context: Flask):
    def fail() -> None:
        with write_transaction() as session:
            session.add(User(email="ada@example.com", password_hash="-"))
            session.flush()
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert db.session.scalar(select(User.id)) is None
    add_user()


def test_a_lock_that_is_held_too_long_is_an_operational_error(
    file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "LOCK_WAIT_SECONDS", 0.2)
    app = make_app(f"{SQLITE}{file}")
    holder = sqlalchemy.create_engine(f"{SQLITE}{file}")
    with app.app_context(), holder.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(OperationalError, match="locked"):
            add_user()
        assert 0.2 <= time.monotonic() - start < 3
    holder.dispose()
    dispose(app)


def test_times_come_back_in_utc_with_their_zone(app_context: Flask):
    user = add_user()
    written = user.created_at
    db.session.expire_all()

    assert user.created_at == written
    assert user.created_at.utcoffset() is not None
    assert user.created_at.isoformat().endswith("+00:00")


def test_a_time_without_a_zone_is_refused(app_context: Flask):
    user = add_user()
    user.created_at = user.created_at.replace(tzinfo=None)

    with pytest.raises(StatementError, match="time zone"):
        db.session.commit()


def test_ids_sort_by_age(app_context: Flask):
    ids = [add_user(f"user{number}@example.com").id for number in range(5)]

    assert ids == sorted(ids)


@pytest.mark.parametrize(
    "make_wrong",
    [
        lambda user, model: setattr(user, "role", "owner"),
        lambda user, model: setattr(model.versions[0], "state", "lost"),
        lambda user, model: model.versions.append(
            ModelVersion(version=1, digest="1" * 64, bytes=1, passport={})
        ),
    ],
    ids=["role", "state", "version twice"],
)
def test_the_database_itself_refuses_a_wrong_row(
    app_context: Flask, make_wrong: Callable[[User, RegisteredModel], None]
):
    user = add_user()
    model = add_model(user)
    model.versions.append(ModelVersion(version=1, digest="0" * 64, bytes=1, passport={"a": 1}))
    db.session.commit()

    make_wrong(user, model)

    with pytest.raises(IntegrityError):
        db.session.commit()


def test_a_postgresql_that_does_not_answer_is_given_up_soon(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "CONNECT_TIMEOUT_SECONDS", 2)  # libpq takes less for 2
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = make_app(f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/none")
        start = time.monotonic()
        with app.app_context(), pytest.raises(OperationalError):
            db.session.scalar(select(User.id))

    assert time.monotonic() - start < 4


def test_a_connection_that_the_server_closed_is_replaced(app_context: Flask):
    if db.engine.dialect.name != "postgresql":
        pytest.skip("only on PostgreSQL")
    add_user()
    process = db.session.scalar(text("SELECT pg_backend_pid()"))
    db.session.rollback()
    other = sqlalchemy.create_engine(db.engine.url)
    with other.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 1000)"), {"pid": process})
    other.dispose()

    assert db.session.scalar(select(User.email)) == "ada@example.com"
    assert db.session.scalar(text("SELECT pg_backend_pid()")) != process
