"""Take the pictures of the admin page that the documentation shows.

`python -m benchmarks.screenshots` starts a service of its own, runs the demo against it, keeps
several users predicting for a few minutes, and photographs the pages in Chromium: light and dark,
on a large screen and on a phone.
"""

import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from sklearn import datasets

from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.demo import EMAIL, PASSWORD
from tests.process.server import ADMIN_EMAIL, ADMIN_PASSWORD, Server, running

FOLDER = Path(__file__).parents[1] / "docs" / "screenshots"
SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 180
SIZES = {"1440": (1440, 1000), "360": (360, 740)}
BAR_PIXELS = 90
USERS = ("ada", "grace", "mary", "sofia")
MODELS: dict[str, Any] = {
    "iris": datasets.load_iris().data.tolist(),
    "cancer": datasets.load_breast_cancer().data.tolist(),
    "digits": datasets.load_digits().data.tolist(),
    "diabetes": datasets.load_diabetes().data.tolist(),
}


def main() -> None:
    """Make traffic, then pictures of it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), workers=2) as server:
        begin = datetime.now(UTC)
        demo = server.run("python", "-m", "tests.demo", timeout=300)
        sys.exit(demo.stdout) if demo.returncode else None
        share_models(server)
        with ThreadPoolExecutor(len(USERS)) as people:
            list(people.map(lambda name: keep_predicting(server, name), USERS))
        take_pictures(server, begin)


def share_models(server: Server) -> None:
    """Let everybody use the models of the demo."""
    token = server.login(EMAIL, PASSWORD)
    for model in server.call("GET", "models", token).json()["data"]["items"]:
        server.call("PATCH", f"models/{model['id']}", token, json={"shared": True})


def keep_predicting(server: Server, name: str) -> None:
    """Ask for predictions, now more, now less, with a mistake now and then."""
    rng = random.Random(name)
    credentials = {"email": f"{name}@example.com", "password": "a password of a picture"}
    answer = server.call("POST", "auth/register", json=credentials).json()
    token: str = answer["data"]["access_token"]
    listed = server.call("GET", "models", token).json()["data"]["items"]
    ids = {model["name"]: model["id"] for model in listed}
    end = time.monotonic() + SECONDS
    while (left := end - time.monotonic()) > 0:
        busy = 1 + 4 * abs((left / SECONDS * 4) % 2 - 1)
        time.sleep(rng.expovariate(busy))
        model = rng.choices(list(MODELS), weights=(6, 3, 2, 1))[0]
        rows = rng.sample(MODELS[model], rng.choice((1, 1, 5, 100)))
        body = {"model_id": ids[model], "input_data": rows}
        chance = rng.random()
        if chance < 0.02:
            body = {"model_id": ids["fragile"], "input_data": [[1e6, 1e6]]}
        elif chance < 0.06:
            body["input_data"] = [[1, 2]]
        server.call("POST", "predictions/predict", token, json=body)


def take_pictures(server: Server, begin: datetime) -> None:
    """Photograph the pages in every scheme and size."""
    since = f"{begin - timedelta(seconds=5):%Y-%m-%dT%H:%M:%SZ}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        for scheme in ("light", "dark"):
            for name, (width, height) in SIZES.items():
                page = open_page(browser, server, scheme, width, height)
                for what in ("overview", "errors", "request", "log"):
                    go_to(page, server, what, since)
                    page.wait_for_timeout(400)
                    bottom = page.locator("main").bounding_box()["height"] + BAR_PIXELS
                    clip = {"x": 0, "y": 0, "width": width, "height": min(height, bottom)}
                    page.screenshot(path=FOLDER / f"{what}-{scheme}-{name}.png", clip=clip)
                page.context.close()
        browser.close()


def open_page(browser: Browser, server: Server, scheme: Any, width: int, height: int) -> Page:
    """Open a window and sign in."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(f"{server.base_url}/admin/login")
    page.get_by_label("E-mail address").fill(ADMIN_EMAIL)
    page.get_by_label("Password").fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")
    return page


def go_to(page: Page, server: Server, what: str, since: str) -> None:
    """Go to a page as a reader of the overview would."""
    where = {"overview": "", "request": "errors"}.get(what, what)
    filters = "&q=path~predict" if what == "log" else ""
    page.goto(f"{server.base_url}/admin/{where}?since={since}{filters}")
    if what == "request":
        page.get_by_role("link", name="PredictionError").first.click()
        page.locator("td[data-label=Request] a").first.click()
        page.wait_for_selector(".timeline")


if __name__ == "__main__":
    main()
