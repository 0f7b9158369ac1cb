"""How the program talks to SQLite and PostgreSQL: options, locking, transactions."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from flask import Flask
from flask_migrate import Migrate
from sqlalchemy import Connection, Dialect, Engine, delete, event, make_url, select
from sqlalchemy.orm import Session

from webapp.db.tables import RevokedToken, ThrottleCounter
from webapp.extensions import db
from webapp.settings import Settings

LOCK_WAIT_SECONDS: Final = 5
CONNECT_TIMEOUT_SECONDS: Final = 3
POOL_TIMEOUT_SECONDS: Final = 5
MIN_POOL_SIZE: Final = 5
MIGRATIONS: Final = Path(__file__).parent / "migrations"
MIGRATION_LOCK: Final = 7065_1101  # PostgreSQL's advisory locks are numbers; this one is ours


def init_app(app: Flask, settings: Settings) -> None:
    """Bind the database to the app; nothing is connected or created yet."""
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(settings)
    db.init_app(app)
    Migrate().init_app(app, db, directory=MIGRATIONS)
    with app.app_context():
        configure(db.engine)


def engine_options(settings: Settings) -> dict[str, Any]:
    """Choose the options of the engine; the values' types are those of ``create_engine``."""
    options: dict[str, Any] = {
        "pool_timeout": POOL_TIMEOUT_SECONDS,
        "pool_size": max(MIN_POOL_SIZE, settings.threads),
        "hide_parameters": True,  # of what failed: they would be in its traceback in the log
    }
    if make_url(settings.database_url).get_backend_name() == "sqlite":
        # sqlite3 then begins a transaction at the first INSERT, UPDATE or DELETE, and takes the
        # write lock there, where it can wait for it. A SELECT takes none and so never blocks,
        # as under PostgreSQL's READ COMMITTED. A plain BEGIN that turns from reading to writing
        # cannot wait: it fails at once if another process wrote meanwhile (SQLITE_BUSY_SNAPSHOT).
        options["connect_args"] = {"isolation_level": "IMMEDIATE", "timeout": LOCK_WAIT_SECONDS}
    else:
        options["pool_pre_ping"] = True
        options["connect_args"] = {
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            # An established connection whose peer vanished is given up after the same patience.
            "tcp_user_timeout": LOCK_WAIT_SECONDS * 1000,
        }
    return options


def configure(engine: Engine) -> None:
    """Make every new SQLite connection refuse a missing file, check foreign keys and use WAL."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "do_connect", _open_existing)
        event.listen(engine, "connect", _set_pragmas)


def file_exists(engine: Engine) -> bool:
    """Tell whether a SQLite database has its file; others have none to look for."""
    path = engine.url.database
    return engine.dialect.name != "sqlite" or not path or Path(path).exists()


def create_file(engine: Engine) -> bool:
    """Create the SQLite file if there is none, readable by its owner alone; say if it was made."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return False
    path = Path(engine.url.database)
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


@contextmanager
def write_transaction() -> Iterator[Session]:
    """Hold the write lock while the block reads, decides and writes; commit at its end.

    For rules that depend on what is there already. A single write needs none of this. On
    PostgreSQL the block must lock the rows that it judges (``with_for_update``). Not to be nested.
    """
    session = db.session()
    session.rollback()  # ends the reads so far, whose objects may be out of date
    try:
        connection = session.connection()
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield session
        session.commit()
    except BaseException:
        session.rollback()
        raise


def delete_expired(
    connection: Connection, table: type[RevokedToken | ThrottleCounter], before: datetime
) -> None:
    """Delete the rows that expired before a time."""
    (key,) = table.__table__.primary_key
    # Rows that another process is deleting are passed over: two sweeps must not deadlock.
    expired = select(key).where(table.expires_at < before).with_for_update(skip_locked=True)
    connection.execute(delete(table).where(key.in_(expired)))


def _open_existing(
    dialect: Dialect, record: object, arguments: list[str], parameters: dict[str, Any]
) -> None:
    # A file that vanished must be an error: plain sqlite3 would answer from a new, empty one.
    if arguments[0] != ":memory:" and not parameters.get("uri"):
        arguments[0] = f"{Path(arguments[0]).as_uri()}?mode=rw"
        parameters["uri"] = True


def _set_pragmas(connection: Any, record: object) -> None:  # Any: DB-API has no common type
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()
