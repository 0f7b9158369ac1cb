"""The long-lived parts that views and commands use, made once by the factory."""

from dataclasses import dataclass
from typing import Final, cast

from flask import Flask, current_app

from webapp.events.rotation import SharedRotatingHandler
from webapp.logstore.caching import RecentAnswers
from webapp.logstore.reader import LogReader
from webapp.ml.store import ModelStore
from webapp.services.acceptance import Acceptance
from webapp.services.catalog import Catalog
from webapp.services.compilations import Compilations
from webapp.services.predictions import Predictions
from webapp.services.quarantine import Quarantine
from webapp.services.registry import Registry
from webapp.services.throttle import LoginThrottle
from webapp.settings import Settings

_KEY: Final = "pellucid"


@dataclass(frozen=True)
class Parts:
    """What the factory put together."""

    settings: Settings
    log_handler: SharedRotatingHandler
    reader: LogReader
    answers: RecentAnswers
    store: ModelStore
    catalog: Catalog
    registry: Registry
    predictions: Predictions
    compilations: Compilations
    acceptance: Acceptance
    quarantine: Quarantine
    throttle: LoginThrottle


def attach(app: Flask, parts: Parts) -> None:
    """Give the parts to the app."""
    app.extensions[_KEY] = parts


def parts() -> Parts:
    """Get the parts of the app that serves this request."""
    return cast(Parts, current_app.extensions[_KEY])
