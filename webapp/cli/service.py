"""``flask prepare``: what has to be there before the service can start."""

import sys

import click
from flask import current_app
from flask.cli import with_appcontext
from sqlalchemy.exc import SQLAlchemyError

from webapp.cli.models import judge_again
from webapp.db import schema
from webapp.errors import AppError
from webapp.events.actions import record_action
from webapp.ml.loading import TERMS
from webapp.parts import parts
from webapp.services import accounts

FIRST_ADMIN_EMAIL = "admin@localhost"


@click.command("prepare")
@with_appcontext
def prepare() -> None:
    """Bring the database up to date and create the first admin if there is none.

    Models that another policy or scikit-learn accepted are judged again.
    """
    settings = parts().settings
    try:
        schema.upgrade(current_app)
        stale = parts().acceptance.find_stale()
        if stale:
            click.echo(f"{len(stale)} model files are checked again, by {TERMS}")
            judge_again(stale)
        made = accounts.ensure_first_admin(
            settings.admin_email or FIRST_ADMIN_EMAIL, settings.admin_password or None
        )
    except (AppError, SQLAlchemyError) as error:
        click.echo(f"pellucid: {error}", err=True)
        sys.exit(1)
    if made is not None:
        user, password = made
        record_action("create_user", email=user.email, user_id=user.id, actor="cli")
        click.echo(f"first admin    {user.email}")
        if password is not None:
            click.echo(f"its password   {password}   (shown this once)")
    base = f"http://{settings.bind}"
    click.echo(f"API            {base}/api/v1")
    click.echo(f"API docs       {base}/api/v1/docs")
    click.echo(f"admin page     {base}/admin/")
