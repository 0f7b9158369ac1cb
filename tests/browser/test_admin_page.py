"""The admin page in Chromium: a problem is followed to its cause, with nothing to complain of."""

import re
import time
from datetime import UTC, datetime

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import HOSTILE, USER, Watched
from tests.log_lines import Process, write_log
from tests.process.server import Server

PAGES = (
    "",
    "?since=2020-01-01&until=2020-01-02",
    "errors",
    "errors/group?cause=division",
    "requests",
    "requests/request-that-fails",
    "requests/request-of-an-attacker",
    "log",
    "log?q=level%3E=error",
    "models",
    "users",
    "activity",
)
SERIOUS = {"serious", "critical"}
OPENS_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"


def _serious_violations(page: Page) -> list[tuple[str, str, str]]:
    return [
        (one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"])
        for one in Axe().run(page).response["violations"]
        if one["impact"] in SERIOUS
    ]


def test_an_error_is_followed_from_the_overview_to_its_lines(
    stranger: Watched, server: Server
) -> None:
    page = stranger.log_in()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.locator(".plot .uplot")).to_have_count(3)
    page.get_by_role("navigation", name="Time window").get_by_role("link", name="24 h").click()
    page.wait_for_url("**/admin/?since=24h")

    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Errors").click()
    page.get_by_role("link", name="ZeroDivisionError: division by zero").click()
    expect(page.locator(".trace .own").first).to_contain_text("webapp/ml/predictor.py")
    page.get_by_role("link", name="request-that-fails").click()
    expect(page.locator(".timeline")).to_contain_text("Request failed")
    page.get_by_role("link", name="Its lines in the log").click()
    expect(page.locator("#rows > li")).to_have_count(2)

    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/admin/login")
    stranger.open()
    page.wait_for_url(re.compile(r"/admin/login\?next="))
    assert stranger.complaints == []


def test_a_wrong_password_is_told(stranger: Watched) -> None:
    page = stranger.open("login")
    page.get_by_label("E-mail address").fill("nobody@example.com")
    page.get_by_label("Password").fill("no idea at all")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("wrong e-mail address or password")
    expect(page.get_by_label("E-mail address")).to_have_value("nobody@example.com")


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_accessible_and_show_hostile_text_as_text(admin: Watched, path: str) -> None:
    page = admin.open(path)
    page.evaluate(OPENS_ALL)
    assert _serious_violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert _serious_violations(page) == [], "in the dark"
    assert page.locator("main script, main img, main style, main [onerror]").count() == 0
    shown = page.locator("main").inner_text()
    assert "\u202e" not in shown
    assert "\x1b" not in shown
    if path.endswith("attacker"):
        assert HOSTILE.partition("\x1b")[0] in shown
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360, "on a phone"


def test_the_login_page_is_accessible(stranger: Watched) -> None:
    assert _serious_violations(stranger.open("login")) == []


def test_the_overview_refreshes_itself_without_a_flicker(admin: Watched, server: Server) -> None:
    page = admin.page
    page.add_init_script(
        # What waits ten seconds in earnest waits a half here.
        "const wait = setTimeout; window.setTimeout = (run, ms) => wait(run, Math.min(ms, 500));"
    )
    admin.open()
    figure = page.locator(".tile .figure").first
    before = int(figure.inner_text())
    page.get_by_text("Custom").click()
    page.evaluate("document.querySelector('.tile').dataset.mine = 'the same element'")
    server.call("GET", "auth/me")
    page.wait_for_function(
        "(before) => Number(document.querySelector('.figure').textContent) > before", arg=before
    )
    assert page.locator(".tile").first.get_attribute("data-mine") is None  # not of the server's
    expect(page.get_by_label("From (UTC)")).to_be_visible()  # what was open stays open
    expect(page.locator(".plot .uplot")).to_have_count(3)
    assert not server.events(route="/admin/live/overview"), "refreshes write no lines"


def test_the_open_log_grows(admin: Watched, server: Server) -> None:
    page = admin.open("log?q=level=critical")
    seq = int(time.monotonic() * 1000)
    line = Process(pid=9005, seq=seq).event(
        datetime.now(UTC), level="CRITICAL", message=f"line {seq}"
    )
    write_log(server.log_dir / "app.log", [line], "ab")
    expect(page.locator("#rows > li").first).to_contain_text(f"line {seq}", timeout=10_000)
    page.get_by_label("Follow").uncheck()


def test_filters_are_searched_and_mistakes_explained(admin: Watched) -> None:
    page = admin.open("log")
    page.get_by_role("link", name="Predictions").click()
    expect(page.locator("#rows > li").first).to_contain_text("Prediction")
    page.get_by_label("Filters", exact=True).fill("status_code>=500")
    page.keyboard.press("Enter")
    expect(page.locator("#rows > li").first).to_contain_text("Request failed")
    page.get_by_label("Filters", exact=True).fill("levle=error")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("nearest: level")
    admin.complaints.clear()  # the browser reports the 400, which is what was asked for


def test_times_are_local_on_hover_and_commands_can_be_copied(admin: Watched) -> None:
    page = admin.open("errors")
    moment = page.locator("time").first
    moment.hover()
    assert re.search(r"\d{4}-\d\d-\d\dT.*Z\)$", moment.get_attribute("title") or "")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_text("Copy as command").first.click()
    page.get_by_role("button", name="Copy", exact=True).click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "flask logs errors --limit 50 --since 1h"


def test_the_keyboard_reaches_the_content_first(admin: Watched) -> None:
    page = admin.open("errors")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('main').contains(document.activeElement)")


def test_without_scripts_the_pages_show_the_same(chromium: Browser, server: Server) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = Watched(context.new_page(), server.base_url).log_in()
    expect(page.locator(".plot svg")).to_have_count(3)
    expect(page.get_by_role("link", name=USER)).to_be_visible()
    page.get_by_role("link", name="1 h").first.click()
    page.get_by_text("Copy as command").first.click()
    expect(page.get_by_text("flask logs endpoints --since 1h")).to_be_visible()
    context.close()
