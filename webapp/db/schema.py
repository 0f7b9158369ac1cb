"""Whether the database has the tables that this program expects, and giving them to it."""

import logging
from functools import cache

import flask_migrate
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError

from webapp.db.engine import MIGRATIONS, configure, engine_options, file_exists
from webapp.settings import Settings

logger = logging.getLogger(__name__)


def current_revision_is_head(engine: Engine) -> bool:
    """Tell whether the newest migration is applied, and no unknown one.

    Raises
    ------
    sqlalchemy.exc.OperationalError : the database cannot be reached, or its file is missing
    """
    with engine.connect() as connection:
        heads = MigrationContext.configure(connection).get_current_heads()
    return set(heads) == _script_heads()


def find_problem(engine: Engine) -> str | None:
    """Say why the service cannot work with this database, or None if it can."""
    if not file_exists(engine):
        return "there is no database yet, or its file is gone: run `flask prepare`"
    try:
        if current_revision_is_head(engine):
            return None
    except SQLAlchemyError as error:
        logger.warning("Database check failed", exc_info=error)
        return "the database does not answer"
    return "the database has another schema than this program: run `flask prepare`"


def check_before_start(settings: Settings) -> str | None:
    """Say why the server should not start, or None; leaves no connection open.

    Its workers would otherwise start and answer 503 to everything; and a SQLite file that is
    missing is more likely a wrong path than a wish for an empty database.
    """
    checked = create_engine(settings.database_url, **engine_options(settings))
    configure(checked)
    try:
        return find_problem(checked)
    finally:
        checked.dispose()


def upgrade(app: Flask) -> None:
    """Create the database file if there is none and apply the missing migrations."""
    with app.app_context():
        flask_migrate.upgrade()


@cache
def _script_heads() -> set[str]:
    return set(ScriptDirectory(str(MIGRATIONS)).get_heads())
