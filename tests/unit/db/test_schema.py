import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from tests.database import SQLITE, dispose, make_app
from webapp.db import schema
from webapp.db.engine import MIGRATION_LOCK, create_file
from webapp.db.tables import DueCompilation, ModelVersion
from webapp.extensions import Base, db
from webapp.ml.loading import Allowed
from webapp.services.acceptance import state_of

# As a program of the fifth migration left them.
VERSIONS_OF_0005 = """
INSERT INTO users (id, email, password_hash, role, disabled, created_at)
VALUES ('u', 'u@example.com', '', 'user', false, '2026-01-01 00:00:00');
INSERT INTO registered_models (id, owner_id, name, description, shared, next_version, created_at,
                               updated_at)
VALUES ('m', 'u', 'm', '', false, 4, '2026-01-01 00:00:00', '2026-01-01 00:00:00');
INSERT INTO model_versions (id, model_id, version, digest, bytes, state, passport, created_at)
VALUES ('older', 'm', 1, 'a', 1, 'ready', '{}', '2026-01-01 00:00:00'),
       ('lost', 'm', 2, 'b', 1, 'ready', '{"compilation": null}', '2026-01-01 00:00:00'),
       ('done', 'm', 3, 'c', 1, 'ready', '{"compilation": {"engine": "onnx"}}',
        '2026-01-01 00:00:00')
"""


@pytest.fixture
def empty_app(unmigrated_url: str) -> Iterator[Flask]:
    app = make_app(unmigrated_url)
    yield app
    dispose(app)


def is_head(app: Flask) -> bool:
    with app.app_context():
        return schema.current_revision_is_head(db.engine)


def test_an_upgrade_makes_the_schema_current(empty_app: Flask):
    schema.upgrade(empty_app)

    assert is_head(empty_app)


def test_a_second_upgrade_changes_nothing(empty_app: Flask):
    schema.upgrade(empty_app)
    schema.upgrade(empty_app)

    assert is_head(empty_app)


def test_the_migrations_make_the_tables_that_the_program_declares(app_context: Flask):
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})

        assert compare_metadata(context, Base.metadata) == []


@pytest.fixture
def upgraded_app(empty_app: Flask) -> Flask:
    """An app whose database a program of the fifth migration had."""
    with empty_app.app_context():
        flask_migrate.upgrade(revision="0005")
        with db.engine.begin() as connection:
            for statement in VERSIONS_OF_0005.split(";"):
                connection.exec_driver_sql(statement)
    schema.upgrade(empty_app)
    return empty_app


def test_versions_from_before_are_to_be_judged_again_after_an_upgrade(upgraded_app: Flask):
    with upgraded_app.app_context():
        states = [
            state_of(version, Allowed()) for version in db.session.scalars(select(ModelVersion))
        ]
    assert states == ["revalidate"] * 3


def test_versions_that_were_never_compiled_are_due_after_an_upgrade(upgraded_app: Flask):
    with upgraded_app.app_context():
        due = db.session.scalars(select(DueCompilation.version_id)).all()
    assert sorted(due) == ["lost", "older"]


def test_upgrades_wait_for_the_one_under_way(empty_app: Flask, unmigrated_url: str):
    script = "import sys; from tests.database import migrate; migrate(sys.argv[1])"
    with empty_app.app_context():
        create_file(db.engine)
        with db.engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            upgrades = [
                subprocess.Popen(
                    [sys.executable, "-c", script, unmigrated_url], stderr=subprocess.PIPE
                )
                for _ in range(2)
            ]
            time.sleep(2)
            assert [upgrade.poll() for upgrade in upgrades] == [None, None]

    ends = [(upgrade.communicate(timeout=60)[1], upgrade.returncode) for upgrade in upgrades]

    assert [status for _, status in ends] == [0, 0], ends
    assert is_head(empty_app)


def test_a_schema_of_another_version_of_the_program_is_not_current(empty_app: Flask):
    schema.upgrade(empty_app)
    with empty_app.app_context(), db.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'future'"))

    assert not is_head(empty_app)


def test_a_database_without_tables_is_not_current(empty_app: Flask):
    with empty_app.app_context():
        create_file(db.engine)

    assert not is_head(empty_app)


def test_a_missing_file_is_an_error_and_not_an_old_schema(tmp_path: Path):
    app = make_app(f"{SQLITE}{tmp_path / 'gone.db'}")

    with pytest.raises(OperationalError):
        is_head(app)


def test_foreign_keys_are_checked_again_after_an_upgrade(tmp_path: Path):
    app = make_app(f"{SQLITE}{tmp_path / 'pellucid.db'}")
    schema.upgrade(app)

    with app.app_context(), db.engine.connect() as connection:
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
    dispose(app)
