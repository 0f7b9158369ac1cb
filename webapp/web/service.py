"""The kind of Flask that the program is."""

from collections.abc import Callable
from typing import Any

from flask import Flask


class Service(Flask):
    """A Flask whose views and hooks are plain functions.

    Flask asks each of them, at each request, whether it is a coroutine function.
    """

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Take a function as it is."""
        return func
