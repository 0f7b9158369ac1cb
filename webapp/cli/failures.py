"""How a command that needs the database says that it failed."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.exc import SQLAlchemyError

from webapp.errors import AppError


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn a failure into one line on stderr and exit status 1."""
    try:
        yield
    except AppError as error:
        raise click.ClickException(error.message) from None
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise click.ClickException(f"the database failed: {cause}") from None
