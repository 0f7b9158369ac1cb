"""A database for tests, and a small app with that database and tokens, and nothing of the web.

SQLite, or the PostgreSQL of TEST_DATABASE_URL, where everything happens in a schema of its own.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy
from flask import Flask
from flask_jwt_extended import JWTManager

from webapp import settings
from webapp.db import engine, schema
from webapp.extensions import Base, db
from webapp.services import tokens

SQLITE = "sqlite:///"


def make_app(database_url: str) -> Flask:
    """Make an app that knows a database, which need not be there yet."""
    chosen = settings.load(
        {settings.env_name("database_url"): database_url},
        {"instance_path": Path("nowhere"), "jwt_secret_key": secrets.token_hex()},
    )
    app = Flask(__name__)
    app.extensions["settings"] = chosen
    app.config |= tokens.jwt_config(chosen)
    engine.init_app(app, chosen)
    JWTManager(app)
    return app


def dispose(app: Flask) -> None:
    """Close the app's connections."""
    with app.app_context():
        db.engine.dispose()


def migrate(database_url: str) -> None:
    """Give a database our tables."""
    app = make_app(database_url)
    schema.upgrade(app)
    dispose(app)


@pytest.fixture
def unmigrated_url(tmp_path: Path) -> Iterator[str]:
    """A database without tables: a file that does not exist yet, or an empty schema."""
    server = os.environ.get("TEST_DATABASE_URL")
    if server:
        yield from _schema(server)
    else:
        yield f"{SQLITE}{tmp_path / 'new' / 'pellucid.db'}"


@contextmanager
def migrated(folder: Path) -> Iterator[str]:
    """Make a database with our tables: a file in the folder, or a schema of its own."""
    server = os.environ.get("TEST_DATABASE_URL")
    for url in _schema(server) if server else [f"{SQLITE}{folder / 'template.db'}"]:
        migrate(url)
        yield url


@pytest.fixture(scope="session")
def migrated_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with our tables: a file to copy, or a schema to empty."""
    with migrated(tmp_path_factory.mktemp("template")) as url:
        yield url


@pytest.fixture
def database_url(migrated_url: str, tmp_path: Path) -> str:
    """Our tables, empty, for one test."""
    if migrated_url.startswith(SQLITE):
        copy = tmp_path / "pellucid.db"
        shutil.copy(migrated_url.removeprefix(SQLITE), copy)
        return f"{SQLITE}{copy}"
    emptied = sqlalchemy.create_engine(migrated_url)
    with emptied.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    emptied.dispose()
    return migrated_url


@pytest.fixture
def bare_app(database_url: str) -> Iterator[Flask]:
    """The small app, no context pushed."""
    app = make_app(database_url)
    yield app
    dispose(app)


@pytest.fixture
def app_context(bare_app: Flask) -> Iterator[Flask]:
    """The small app, its context pushed for the length of the test."""
    with bare_app.app_context():
        yield bare_app


def _schema(server: str) -> Iterator[str]:
    name = f"test_{secrets.token_hex(4)}"
    url = sqlalchemy.make_url(server).set(drivername="postgresql+psycopg")
    admin = sqlalchemy.create_engine(url)
    with admin.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    inside = url.update_query_dict({"options": f"-csearch_path={name}"})
    yield inside.render_as_string(hide_password=False)
    with admin.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    admin.dispose()
