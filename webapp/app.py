"""The factory: the program, put together in reading order."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import Flask

from webapp import metrics
from webapp import settings as configuration
from webapp.cli.models import models as model_commands
from webapp.cli.service import prepare
from webapp.cli.users import users
from webapp.db import engine
from webapp.events import handlers, timing
from webapp.events.rotation import SharedRotatingHandler
from webapp.extensions import db
from webapp.logstore.archive import start_archiver
from webapp.logstore.caching import RecentAnswers
from webapp.logstore.reader import LogReader
from webapp.ml.store import ModelStore
from webapp.parts import Parts, attach
from webapp.services import tokens
from webapp.services.acceptance import Acceptance
from webapp.services.catalog import Catalog
from webapp.services.compilations import Compilations
from webapp.services.predictions import Predictions
from webapp.services.quarantine import Quarantine
from webapp.services.registry import Registry
from webapp.services.throttle import LoginThrottle
from webapp.settings import Settings
from webapp.web import docs, errors, headers, hooks, proxies, security
from webapp.web.blueprints import admin, auth, mlflow, models, ops, predictions, tfserving, v2
from webapp.web.body import OrjsonProvider
from webapp.web.pages import site
from webapp.web.service import Service
from webapp.web.uploads import StreamingRequest


def create_app(overrides: Mapping[str, Any] | None = None) -> Flask:
    """Put the program together from its settings; ``overrides`` replace some, for tests."""
    settings = (
        configuration.load_or_exit() if overrides is None else configuration.load({}, overrides)
    )
    configuration.forget_secrets()
    log_handler = handlers.configure(
        settings,
        on_written=metrics.count_log_record,
        on_dropped=metrics.count_dropped_log_record,
        on_rotated=partial(
            start_archiver, settings.log_dir, settings.log_retention_days, settings.log_max_bytes
        ),
    )

    app = Service(__name__)
    app.request_class = StreamingRequest
    app.json = OrjsonProvider(app)
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        TRUSTED_HOSTS=list(settings.allowed_hosts) or None,
        PROPAGATE_EXCEPTIONS=False,
        **tokens.jwt_config(settings),
    )

    hooks.init_app(app, settings)
    errors.init_app(app)
    security.init_app(app)
    headers.init_app(app)
    proxies.init_app(app, settings.trusted_proxies)
    engine.init_app(app, settings)
    with app.app_context():
        timing.watch_queries(db.engine, settings.slow_query_seconds)

    attach(app, _parts(settings, log_handler))
    for module in (auth, models, predictions, v2, mlflow, tfserving, admin, ops):
        app.register_blueprint(module.blueprint)
    docs.init_app(app)
    site.init_app(app)
    app.cli.add_command(prepare)
    app.cli.add_command(users)
    app.cli.add_command(model_commands)
    return app


def _parts(settings: Settings, log_handler: SharedRotatingHandler) -> Parts:
    reader = LogReader(settings.log_dir)
    store = ModelStore(settings.instance_path / "models")
    registry = Registry(settings, store)
    return Parts(
        settings=settings,
        log_handler=log_handler,
        reader=reader,
        answers=RecentAnswers(reader),
        store=store,
        catalog=Catalog(settings),
        registry=registry,
        predictions=Predictions(settings, store, registry),
        compilations=Compilations(settings, store, registry),
        acceptance=Acceptance(settings, store),
        quarantine=Quarantine(store),
        throttle=LoginThrottle(settings),
    )
