"""Whether the database has the tables that this program expects, and giving them to it."""

from functools import cache

import flask_migrate
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import Engine

from webapp.db.engine import MIGRATIONS


def current_revision_is_head(engine: Engine) -> bool:
    """Tell whether the newest migration is applied, and no unknown one.

    Raises
    ------
    sqlalchemy.exc.OperationalError : the database cannot be reached, or its file is missing
    """
    with engine.connect() as connection:
        heads = MigrationContext.configure(connection).get_current_heads()
    return set(heads) == _script_heads()


def upgrade(app: Flask) -> None:
    """Create the database file if there is none and apply the missing migrations."""
    with app.app_context():
        flask_migrate.upgrade()


@cache
def _script_heads() -> set[str]:
    return set(ScriptDirectory(str(MIGRATIONS)).get_heads())
