"""The whole program in one process, with people and models in it, and its log parsed."""

import io
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.estimators import dump
from webapp import metrics
from webapp.app import create_app
from webapp.events import canonical, handlers
from webapp.extensions import db
from webapp.parts import Parts
from webapp.services import accounts, tokens
from webapp.settings import Settings

API = "/api/v1"
PASSWORD = "correct horse battery staple"
Event = dict[str, Any]


@dataclass(frozen=True)
class Person:
    """Somebody with an account and a token."""

    id: str
    email: str
    access_token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        """The header that says who calls."""
        return {"Authorization": f"Bearer {self.access_token}"}


class World:
    """An app on a database of its own, and what it wrote."""

    def __init__(self, folder: Path, database_url: str, **overrides: Any) -> None:
        self.log_dir = folder / "logs"
        self.app: Flask = create_app(
            {
                "instance_path": folder / "instance",
                "database_url": database_url,
                "log_dir": self.log_dir,
                "log_stdout": "off",
                "jwt_secret_key": secrets.token_hex(32),
                "engine": "sklearn",  # nothing is compiled but where a test is about that
                **overrides,
            }
        )

    @property
    def parts(self) -> Parts:
        """The long-lived parts of the app."""
        parts: Parts = self.app.extensions["pellucid"]
        return parts

    @property
    def settings(self) -> Settings:
        """The app's settings."""
        return self.parts.settings

    @cached_property
    def client(self) -> FlaskClient:
        """A client that sends what it is told to."""
        return self.app.test_client()

    @cached_property
    def owner(self) -> Person:
        """Somebody who uploads models."""
        return self.person("owner@example.com")

    @cached_property
    def stranger(self) -> Person:
        """Somebody who owns nothing of the owner's."""
        return self.person("stranger@example.com")

    @cached_property
    def admin(self) -> Person:
        """Somebody in the role admin."""
        return self.person("admin@example.com", "admin")

    def person(self, email: str, role: str = "user") -> Person:
        """Open an account and sign in."""
        with self.app.app_context():
            user = accounts.create_user(email, PASSWORD, role)
            pair = tokens.issue_pair(user)
            return Person(user.id, email, pair.access_token, pair.refresh_token)

    def call(
        self, method: str, path: str, person: Person | None = None, **options: Any
    ) -> TestResponse:
        """Send one request; ``path`` is below the API's prefix unless it begins with ``//``."""
        headers = {**(person.headers if person else {}), **options.pop("headers", {})}
        path = path[1:] if path.startswith("//") else f"{API}/{path.lstrip('/')}"
        return self.client.open(path, method=method, headers=headers, **options)

    def upload(
        self,
        name: str,
        model: Any,
        person: Person | None = None,
        sample: str | bytes | None = None,
        **fields: str,
    ) -> TestResponse:
        """Upload an estimator, or bytes that claim to be one."""
        content = model if isinstance(model, bytes) else dump(model)
        data = {"file": (io.BytesIO(content), "model.joblib"), "name": name, **fields}
        if sample is not None:
            rows = sample if isinstance(sample, bytes) else sample.encode()
            data["sample"] = (io.BytesIO(rows), "sample.csv")
        return self.call("POST", "models/upload", person or self.owner, data=data)

    def predict(
        self, reference: str, input_data: Any, person: Person | None = None, **fields: Any
    ) -> TestResponse:
        """Ask for predictions."""
        body = {"model_id": reference, "input_data": input_data, **fields}
        return self.call("POST", "predictions/predict", person or self.owner, json=body)

    def events(self, response: TestResponse | None = None, **fields: Any) -> list[Event]:
        """Parse the log: the lines of one request, or all, with these fields."""
        if response is not None:
            fields["request_id"] = response.headers["X-Request-ID"]
        path = self.log_dir / "app.log"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [
            event
            for event in map(orjson.loads, filter(None, lines))
            if all(event.get(name) == value for name, value in fields.items())
        ]

    def last_event(self, response: TestResponse) -> Event:
        """Parse the line that ended a request; there is exactly one."""
        ends = {"request_completed", "request_failed"}
        (event,) = [e for e in self.events(response) if e["event_type"] in ends]
        return event

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Send this process's records to this world's log."""
        with kept_logging():
            handlers.configure(
                self.settings,
                on_written=metrics.count_log_record,
                on_dropped=metrics.count_dropped_log_record,
            )
            yield

    def close(self) -> None:
        """Give up the database connections."""
        with self.app.app_context():
            db.session.remove()
            db.engine.dispose()


@contextmanager
def kept_logging() -> Iterator[None]:
    """Leave the configuration of ``logging`` as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in before:
                handler.close()
        root.handlers[:], root.level = before, level
        canonical.leave()
