"""Objects shared by the parts that need the database, unbound until the app is made."""

from collections.abc import Sequence
from typing import TypeVar

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, Select
from sqlalchemy.orm import DeclarativeBase

T = TypeVar("T")


class Base(DeclarativeBase):
    """The declarative base; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(metadata=Base.metadata)


def read_page(query: Select[T], page: int, per_page: int) -> tuple[Sequence[T], int]:
    """Read one page of what a query finds, and count all of it."""
    found = db.paginate(query, page=page, per_page=per_page, max_per_page=per_page, error_out=False)
    return found.items, found.total or 0
