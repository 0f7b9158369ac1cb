"""Run the migrations in one transaction that holds the lock, so that two starts do not collide."""

import logging

from alembic import context
from sqlalchemy import Connection

from webapp.db import tables
from webapp.db.engine import MIGRATION_LOCK, create_file
from webapp.extensions import Base, db

logger = logging.getLogger("webapp.db.migrations")


def lock(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        # Rebuilding a table drops the old one, which would delete what refers to its rows.
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")


def unlock(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")


def render_item(kind: str, item: object, _: object) -> str | bool:
    """Write our column type as what it is in the database: a migration outlives our classes."""
    if kind == "type" and isinstance(item, tables.UTCDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run_migrations() -> None:
    if create_file(db.engine):
        logger.warning("Created a new, empty database file")
    with db.engine.connect() as connection:
        try:
            with connection.begin():
                lock(connection)
                context.configure(
                    connection=connection,
                    target_metadata=Base.metadata,
                    render_as_batch=True,
                    compare_type=True,
                    transactional_ddl=True,
                    render_item=render_item,
                )
                context.run_migrations()
        finally:
            unlock(connection)


run_migrations()
