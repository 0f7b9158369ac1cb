"""A real browser before a real gunicorn, whose log has something to tell."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from tests.estimators import dump, iris_pipeline
from tests.log_lines import Process, failure, write_log
from tests.process.server import ADMIN_EMAIL, ADMIN_PASSWORD, Server, running

CHROMIUM: Final = shutil.which("chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE_MILLISECONDS: Final = 15_000
USER = "user@example.com"
PASSWORD = "a password of a test"
HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">\x1b[31m\u202egnp.exe'


@dataclass
class Watched:
    """A page, and what the browser complained about or asked of other hosts meanwhile."""

    page: Page
    base_url: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MILLISECONDS)
        self.page.on("console", self._note_message)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", self._note_request)
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _note_message(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith((self.base_url, "data:")):
            self.complaints.append(f"other host: {request.url}")

    def open(self, path: str = "") -> Page:
        """Go to a page below /admin/."""
        self.page.goto(f"{self.base_url}/admin/{path}")
        return self.page

    def log_in(self) -> Page:
        """Sign in as the admin."""
        page = self.open("login")
        page.get_by_label("E-mail address").fill(ADMIN_EMAIL)
        page.get_by_label("Password").fill(ADMIN_PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/admin/")
        return page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with a model, predictions, mistakes, one failure and hostile lines."""
    with running(tmp_path_factory.mktemp("browser"), workers=1) as started:
        _make_traffic(started)
        yield started


def _make_traffic(server: Server) -> None:
    credentials = {"email": USER, "password": PASSWORD}
    token = server.call("POST", "auth/register", json=credentials).json()["data"]["access_token"]
    server.call(
        "POST",
        "models/upload",
        token,
        data={"name": "iris"},
        files={"file": dump(iris_pipeline())},
    ).raise_for_status()
    server.call("POST", "models/upload", token, data={"name": "x"}, files={"file": b"no model"})
    for rows in ([[5.1, 3.5, 1.4, 0.2]] * 3, np.ones((2, 4)).tolist(), [[1, 2]]):
        body = {"model_id": "iris", "input_data": rows}
        server.call("POST", "predictions/predict", token, json=body)
    _write_lines(server.log_dir / "app.log")


def _write_lines(path: Path) -> None:
    """Add what no test can make happen: an unforeseen failure, and lines of an attacker."""
    process, now = Process(pid=9001), datetime.now(UTC)
    broken = failure("ZeroDivisionError", "division", "division by zero")
    hostile = {"model_id": HOSTILE, "model_name": HOSTILE, "reason": HOSTILE}
    between = [
        ("prediction", {**hostile, "outcome": "failure"}),
        ("user_action", {**hostile, "action": HOSTILE, "email": HOSTILE, "outcome": "failure"}),
        ("slow_query", {"query": HOSTILE, "duration": 2.0}),
    ]
    lines = process.request(now, request_id="request-that-fails", status=500, **broken)
    lines += process.request(
        now,
        request_id="request-of-an-attacker",
        path=HOSTILE,
        method=HOSTILE,
        user_id=HOSTILE,
        status=500,
        between=between,
        **failure(HOSTILE, HOSTILE, HOSTILE),
    )
    lines[2]["user_agent"] = HOSTILE
    write_log(path, lines, "ab")


@pytest.fixture(scope="module")  # its event loop would meet those of other tests
def _playwright() -> Iterator[Playwright]:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed (Debian's package chromium)")
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def chromium(_playwright: Playwright) -> Iterator[Browser]:
    """Debian's Chromium; the bundled browsers of Playwright are not downloaded."""
    browser = _playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, server: Server) -> Iterator[BrowserContext]:
    """A window in which the admin is signed in."""
    context = chromium.new_context(color_scheme="light")
    Watched(context.new_page(), server.base_url).log_in()
    yield context
    context.close()


@pytest.fixture
def admin(signed_in: BrowserContext, server: Server) -> Iterator[Watched]:
    """A page of that window; nothing may be complained about while it is open."""
    watched = Watched(signed_in.new_page(), server.base_url)
    yield watched
    watched.page.close()
    assert watched.complaints == []


@pytest.fixture
def stranger(chromium: Browser, server: Server) -> Iterator[Watched]:
    """A page in which nobody is signed in."""
    context = chromium.new_context()
    yield Watched(context.new_page(), server.base_url)
    context.close()
