"""A small app with the database and the tokens, and nothing of the web."""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from flask import Flask
from flask_jwt_extended import JWTManager

from webapp import settings
from webapp.db import engine, schema
from webapp.extensions import Base, db
from webapp.services import tokens


def _bare_app(database_url: str) -> Flask:
    chosen = settings.load(
        {},
        {
            "instance_path": Path("nowhere"),
            "database_url": database_url,
            "jwt_secret_key": "k" * settings.MIN_SECRET_BYTES,
        },
    )
    app = Flask(__name__)
    app.extensions["settings"] = chosen
    app.config |= tokens.jwt_config(chosen)
    engine.init_app(app, chosen)
    JWTManager(app)
    return app


def _dispose(app: Flask) -> None:
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="session")
def migrated_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with our tables: a SQLite file to copy, or a PostgreSQL schema to empty."""
    if not (server := os.environ.get("TEST_DATABASE_URL")):
        url = f"sqlite:///{tmp_path_factory.mktemp('template') / 'template.db'}"
        app = _bare_app(url)
        schema.upgrade(app)
        _dispose(app)
        yield url
        return
    name = f"services_{secrets.token_hex(4)}"
    admin = sqlalchemy.create_engine(server.replace("postgresql://", "postgresql+psycopg://"))
    with admin.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    url = admin.url.update_query_dict({"options": f"-csearch_path={name}"})
    app = _bare_app(url.render_as_string(hide_password=False))
    schema.upgrade(app)
    _dispose(app)
    yield url.render_as_string(hide_password=False)
    with admin.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    admin.dispose()


@pytest.fixture
def database_url(migrated_url: str, tmp_path: Path) -> str:
    """The tables, empty, for one test."""
    if not migrated_url.startswith("sqlite"):
        emptied = sqlalchemy.create_engine(migrated_url)
        with emptied.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())
        emptied.dispose()
        return migrated_url
    copy = tmp_path / "pellucid.db"
    shutil.copy(migrated_url.removeprefix("sqlite:///"), copy)
    return f"sqlite:///{copy}"


@pytest.fixture
def bare_app(database_url: str) -> Iterator[Flask]:
    """The app, with no context pushed."""
    app = _bare_app(database_url)
    yield app
    _dispose(app)


@pytest.fixture
def app(bare_app: Flask) -> Iterator[Flask]:
    """The app, its context pushed for the length of the test."""
    with bare_app.app_context():
        yield bare_app
