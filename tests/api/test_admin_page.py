"""The admin page as a browser without scripts gets it: who is let in, and what stands there."""

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from flask.testing import FlaskClient
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from werkzeug.test import TestResponse

from tests import database
from tests.estimators import cancer_forest, digits_boosting, iris_pipeline, wine_columns
from tests.log_lines import Process, failure, write_log
from tests.world import PASSWORD, World, kept_logging
from webapp.logstore import queries
from webapp.ml.attempts import Death
from webapp.services import accounts, tokens
from webapp.web.pages import formats

ROW = [5.1, 3.5, 1.4, 0.2]
PAGES = ("", "errors", "requests", "log", "models", "users", "activity")
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202etxt.exe"


class Browser:
    """A browser that keeps cookies and sends forms, and runs no script."""

    def __init__(self, world: World) -> None:
        self.client: FlaskClient = world.app.test_client()

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(f"/admin/{path}", **options)

    def post(self, path: str, **fields: str) -> TestResponse:
        return self.client.post(f"/admin/{path}", data=fields)

    def log_in(self, email: str, password: str = PASSWORD, **more: str) -> TestResponse:
        return self.post("login", email=email, password=password, **more)

    def csrf(self) -> str:
        found = re.search(r'name="csrf_token" value="([^"]+)"', text(self.get("log")))
        assert found
        return found[1]

    def cookie(self, name: str) -> str | None:
        kept = self.client.get_cookie(name, path="/admin")
        return kept.value if kept else None


def text(response: TestResponse) -> str:
    return unescape(response.get_data(as_text=True))


@pytest.fixture(scope="module")
def _own_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with kept_logging(), database.migrated(tmp_path_factory.mktemp("page-db")) as url:
        made = World(tmp_path_factory.mktemp("page"), url)
        for name, estimator in {"iris": iris_pipeline(), "cancer": cancer_forest()}.items():
            assert made.upload(name, estimator).status_code == 201
        yield made
        made.close()


@pytest.fixture
def served(_own_world: World) -> Iterator[World]:
    """A program that serves `iris` and `cancer`, to whose log these tests add lines."""
    with _own_world.logging():
        yield _own_world


@pytest.fixture
def browser(served: World) -> Browser:
    """A browser in which nobody is signed in."""
    return Browser(served)


@pytest.fixture
def admin(served: World) -> Browser:
    """A browser in which an admin is signed in."""
    signed_in = Browser(served)
    assert signed_in.log_in(served.admin.email).status_code == 303
    return signed_in


def test_signing_in_leads_where_one_wanted_to_go(served: World, browser: Browser) -> None:
    asked = browser.get("errors?since=24h")
    assert asked.status_code == 303
    form = browser.client.get(asked.location)
    assert 'name="next" value="/admin/errors?since=24h"' in text(form)
    answer = browser.log_in(served.admin.email, next="/admin/errors?since=24h")
    assert (answer.status_code, answer.location) == (303, "/admin/errors?since=24h")
    assert browser.get("errors?since=24h").status_code == 200
    (action,) = served.events(answer, event_type="user_action")
    assert (action["action"], action["outcome"]) == ("login", "success")


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/adminx", "", "/admin/\r\nSet-Cookie: a=b"],
)
def test_signing_in_leads_nowhere_else(served: World, browser: Browser, target: str) -> None:
    answer = browser.log_in(served.admin.email, next=target)
    assert (answer.status_code, answer.location) == (303, "/admin/")
    assert browser.get("").status_code == 200


def test_cookies_are_for_this_page_and_no_script(served: World, browser: Browser) -> None:
    answer = browser.log_in(served.admin.email)
    cookies = answer.headers.getlist("Set-Cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        assert {"Path=/admin", "HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
        assert "Secure" not in cookie.split("; ")
    secure = browser.client.post(
        "/admin/login",
        data={"email": served.admin.email, "password": PASSWORD},
        base_url="https://localhost",
    )
    assert all("Secure" in one.split("; ") for one in secure.headers.getlist("Set-Cookie"))


def test_a_wrong_password_is_told_and_logged(served: World, browser: Browser) -> None:
    answer = browser.log_in("nobody@example.com", "wrong password")
    assert answer.status_code == 401
    assert "wrong e-mail address or password" in text(answer)
    assert "wrong password" not in text(answer)
    (action,) = served.events(answer, event_type="user_action")
    assert (action["outcome"], action["email"]) == ("failure", "nobody@example.com")
    assert browser.get("").status_code == 303


def test_guessing_is_throttled(world: World) -> None:
    browser = Browser(world)
    answers = [browser.log_in("admin@example.com", f"guess {n}") for n in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_who_is_no_admin_gets_a_plain_page(served: World, browser: Browser) -> None:
    answer = browser.log_in(served.owner.email)
    assert answer.status_code == 403
    assert answer.mimetype == "text/html"
    assert "for admins only" in text(answer)
    assert "Set-Cookie" not in answer.headers
    (action,) = served.events(answer, event_type="user_action")
    assert action["outcome"] == "failure"


def test_nothing_is_reachable_without_the_role(served: World, browser: Browser) -> None:
    rules = [rule for rule in served.app.url_map.iter_rules() if rule.rule.startswith("/admin")]
    guarded = [rule for rule in rules if not (rule.endpoint or "").startswith("login.")]
    assert len(guarded) > 15
    with served.app.app_context():
        token = tokens.issue_page_session(accounts.get_user(served.owner.id)).access_token
    for rule in guarded:
        path = re.sub(r"<\w+>", "some-id-or-other", rule.rule)
        method = "POST" if "POST" in rule.methods else "GET"
        nobody = served.app.test_client().open(
            path, method=method, content_type="application/x-www-form-urlencoded"
        )
        assert nobody.status_code in (303, 401), path
        assert nobody.status_code == 401 or "/admin/login" in nobody.location
        demoted = served.app.test_client()
        demoted.set_cookie("access_token_cookie", token, path="/admin")
        if method == "GET":
            assert demoted.get(path).status_code == 403, path


def test_a_token_in_a_header_opens_no_page_and_a_cookie_no_api(
    served: World, browser: Browser
) -> None:
    assert browser.get("", headers=served.admin.headers).status_code == 303
    browser.client.set_cookie("access_token_cookie", served.admin.access_token)
    assert browser.client.get("/api/v1/admin/metrics").status_code == 401


def test_logging_out_ends_the_session(served: World, admin: Browser) -> None:
    access = admin.cookie("access_token_cookie")
    refresh = admin.cookie("refresh_token_cookie")
    answer = admin.post("logout", csrf_token=admin.csrf())
    assert answer.status_code == 303
    assert served.events(answer, action="logout")
    assert admin.cookie("access_token_cookie") is None
    thief = Browser(served)
    for name, value in (("access_token_cookie", access), ("refresh_token_cookie", refresh)):
        thief.client.set_cookie(name, value or "", path="/admin")
    assert thief.get("").status_code == 303


def test_a_form_without_its_word_is_refused(served: World, admin: Browser) -> None:
    for fields in ({"something": "else"}, {"csrf_token": "made-up"}):
        answer = admin.post("logout", **fields)
        assert answer.status_code == 403
        assert "reload" in text(answer)
    assert admin.get("").status_code == 200


def test_a_form_of_another_site_signs_nobody_in(served: World, browser: Browser) -> None:
    answer = browser.client.post(
        "/admin/login",
        data={"email": served.admin.email, "password": PASSWORD},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


def test_a_form_with_a_file_is_refused_before_it_is_read(served: World, admin: Browser) -> None:
    before = list((served.settings.instance_path / "models").rglob("*"))
    for path in ("login", "logout"):
        answer = admin.client.post(f"/admin/{path}", data={"file": (io.BytesIO(b"x"), "x")})
        assert answer.status_code == 415
    assert list((served.settings.instance_path / "models").rglob("*")) == before


def test_a_form_larger_than_any_of_ours_is_not_read(served: World, admin: Browser) -> None:
    for path in ("login", "logout"):
        answer = admin.client.post(
            f"/admin/{path}",
            data=b"a=1&" * 20_000,
            content_type="application/x-www-form-urlencoded",
        )
        assert answer.status_code == 413
        assert answer.mimetype == "text/html"
        assert served.last_event(answer)["error"] == "RequestEntityTooLarge"


def test_a_form_without_a_length_is_read_to_the_same_bound(browser: Browser) -> None:
    body = io.BytesIO(b"a=1&" * 20_000 + b"email=late@example.com&password=late")
    answer = browser.client.post(
        "/admin/login",
        input_stream=body,
        content_type="application/x-www-form-urlencoded",
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert answer.status_code == 413
    assert body.tell() < 40_000


def test_an_address_longer_than_any_is_not_repeated(served: World, browser: Browser) -> None:
    answer = browser.log_in("a" * 255, "guess")
    assert answer.status_code == 400
    assert "254 characters" in text(answer)
    assert "a" * 255 not in text(answer)
    assert browser.log_in("a" * 254, "guess").status_code == 401


def test_an_expired_access_is_renewed_in_silence(served: World, admin: Browser) -> None:
    word = admin.csrf()
    admin.client.delete_cookie("access_token_cookie", path="/admin")
    answer = admin.get("live/errors")
    assert answer.status_code == 200
    (cookie,) = answer.headers.getlist("Set-Cookie")
    assert cookie.startswith("access_token_cookie=")
    assert "HttpOnly" in cookie
    assert admin.csrf() == word, "a form that was open before is good after"
    admin.client.delete_cookie("access_token_cookie", path="/admin")
    assert admin.post("logout", csrf_token=word).status_code == 303


@pytest.mark.parametrize("path", PAGES)
def test_pages_answer_in_html_and_name_their_command(admin: Browser, path: str) -> None:
    answer = admin.get(path)
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    assert "flask " in text(answer)
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.search(r"<script(?![^>]* src=)|<style|style=|\son\w+=", text(answer))


@pytest.mark.parametrize("path", PAGES)
def test_a_service_that_did_nothing_yet_says_what_to_do_next(world: World, path: str) -> None:
    browser = Browser(world)
    browser.log_in(world.admin.email)
    answer = browser.get(f"{path}?since=2020-01-01&until=2020-01-02")
    assert answer.status_code == 200
    if path != "users":
        assert 'class="empty"' in text(answer)


def test_the_overview_shows_the_figures_of_the_log(served: World, admin: Browser) -> None:
    served.predict("iris", [ROW])
    shown = text(admin.get("?since=7d"))
    (performance,) = queries.endpoint_performance(
        served.parts.reader, endpoint="POST /api/v1/predictions/predict"
    )
    row = re.search(r"/api/v1/predictions/predict</span>(.*?)</tr>", shown, re.DOTALL)
    assert row
    assert f'data-label="Requests">{performance.count}<' in row[1]
    assert f'data-label="Max">{formats.seconds(performance.max)}<' in row[1]
    assert "iris@1" in shown
    assert served.owner.email in shown
    assert "Ready" in shown


def test_a_wrong_window_is_refused_with_an_example(admin: Browser) -> None:
    for query in ("since=yesterday", "since=1h&until=2h", "since=2999-01-01"):
        answer = admin.get(f"?{query}")
        assert answer.status_code == 400, query
        assert answer.mimetype == "text/html"


def test_a_window_at_the_edge_of_the_calendar_gets_a_page(admin: Browser) -> None:
    for path in PAGES:
        for query in ("since=0001-01-01", "since=730000d", "since=1001-01-01&until=9999-12-31"):
            assert admin.get(f"{path}?{query}").status_code == 200, (path, query)
        for query in ("until=0001-01-01", "since=0001-01-01&until=0001-01-02"):
            answer = admin.get(f"{path}?{query}")
            assert answer.status_code == 400, (path, query)
            assert answer.mimetype == "text/html"


def test_the_links_of_the_widest_window_can_be_followed(served: World, admin: Browser) -> None:
    process = Process(pid=9005)
    events = [
        process.event(datetime.now(UTC) + timedelta(milliseconds=n), wide="yes") for n in range(101)
    ]
    write_log(served.log_dir / "app.log", events, "ab")
    shown = text(admin.get("log?since=0001-01-01&q=extra.wide=yes"))
    older = re.search(r'rel="next" href="/admin/([^"]+)"', shown)
    assert older
    assert "-9005-1-" in text(admin.get(older[1]))


def test_the_window_stays_in_every_link(admin: Browser) -> None:
    shown = text(admin.get("?since=24h"))
    for name in ("errors", "requests", "log", "models", "users", "activity"):
        assert f'href="/admin/{name}?since=24h"' in shown


def test_an_error_leads_to_its_request_and_its_lines(served: World, admin: Browser) -> None:
    process = Process(pid=9001)
    request_id = "request-that-fails"
    broken = failure("ZeroDivisionError", "page-error", "division by zero")
    write_log(
        served.log_dir / "app.log",
        process.request(datetime.now(UTC), request_id=request_id, status=500, **broken),
        "ab",
    )
    groups = text(admin.get("errors?since=15m"))
    assert "ZeroDivisionError: division by zero" in groups
    group = text(admin.get("errors/group?cause=page-error&since=15m"))
    assert f'href="/admin/requests/{request_id}"' in group
    assert '<span class="own">  File "/srv/pellucid/webapp/ml/predictor.py"' in group
    assert '<span class="library">  File "/srv/venv' in group
    story = text(admin.get(f"requests/{request_id}"))
    assert f"flask logs request {request_id}" in story
    assert story.index("Request started") < story.index("Request failed")
    lines = text(admin.get(f"log?since=15m&q=request_id={request_id}"))
    assert lines.count("<li id=") == 2


def test_an_unknown_page_request_or_person_is_a_page_of_404(admin: Browser) -> None:
    for path in ("nowhere", "requests/no-such-request", "users/nobody", "models/none"):
        answer = admin.get(path)
        assert answer.status_code == 404, path
        assert answer.mimetype == "text/html"
        assert answer.headers["X-Request-ID"] in text(answer)


def test_the_log_is_searched_and_paged_without_loss(served: World, admin: Browser) -> None:
    process = Process(pid=9002)
    start = datetime.now(UTC) - timedelta(minutes=5)
    # Groups of three with the same time, so that pages would like to end within one.
    events = [
        process.event(start + timedelta(milliseconds=n // 3), paging="yes") for n in range(250)
    ]
    write_log(served.log_dir / "app.log", events, "ab")
    url, seen = "log?since=15m&q=extra.paging=yes", []
    while url:
        shown = text(admin.get(url))
        seen += [int(seq) for seq in re.findall(r'<li id="e-[\w.-]+-9002-(\d+)-', shown)]
        older = re.search(r'rel="next" href="/admin/([^"]+)"', shown)
        url = older[1] if older else ""
    assert sorted(seen) == list(range(1, 251))
    assert len(seen) == 250
    wrong = admin.get("log?q=levle=error")
    assert wrong.status_code == 400
    assert "nearest: level" in text(wrong)


def test_a_filter_that_cannot_be_asked_is_explained(served: World, admin: Browser) -> None:
    for q in ("timestamp>0001-01-01T00:00:00+14:00", f"pid>{'9' * 400}", "extra.a..b=1"):
        for path in ("log", "live/log"):
            answer = admin.get(path, query_string={"q": q})
            assert answer.status_code == 400, (path, q)
            assert answer.mimetype == "text/html"
            assert q.split(">")[0].split("=")[0] in text(answer)


def test_the_open_log_gets_what_is_added(served: World, admin: Browser) -> None:
    shown = text(admin.get("log?q=level=critical"))
    place = re.search(r'data-place="([^"]+)"', shown)
    assert place
    process = Process(pid=9003)
    lines = [process.event(datetime.now(UTC), level=level) for level in ("CRITICAL", "INFO")]
    write_log(served.log_dir / "app.log", lines, "ab")
    answer = admin.get(f"live/log?q=level=critical&place={place[1]}")
    assert re.findall(r"-9003-(\d+)-", text(answer)) == ["1"]
    again = admin.get(f"live/log?q=level=critical&place={answer.headers['X-Log-Place']}")
    assert "-9003-" not in text(again)
    assert admin.get("live/log?place=nonsense").status_code == 400


def test_refreshes_leave_no_line_and_pages_do(served: World, admin: Browser) -> None:
    refreshed = admin.get("live/overview")
    assert refreshed.status_code == 200
    assert "<nav" not in text(refreshed).partition("<main")[0]
    assert served.events(refreshed) == []
    assert served.events(admin.get("")) != []
    nobody = served.app.test_client().get("/admin/live/overview")
    assert nobody.status_code == 401
    assert served.last_event(nobody)["internal"] is True


def test_hostile_text_is_shown_as_text(served: World, admin: Browser) -> None:
    process = Process(pid=9004)
    request_id = "hostile-request"
    model = {"model_id": HOSTILE, "model_name": HOSTILE, "model_version": 1}
    told = {"action": HOSTILE, "reason": HOSTILE, "outcome": "failure", "details": {HOSTILE: "x"}}
    between = [
        ("prediction", {**model, "outcome": "success", "rows": 1, "duration": 0.1}),
        ("user_action", {**told, "email": HOSTILE}),
        ("slow_query", {"query": HOSTILE, "duration": 2.0}),
    ]
    (start, *rest) = process.request(
        datetime.now(UTC),
        request_id=request_id,
        path=f"/{HOSTILE}",
        route=HOSTILE,
        method=HOSTILE,
        user_id=HOSTILE,
        status=500,
        between=between,
        **model,
        **failure(HOSTILE, HOSTILE, HOSTILE),
    )
    start["user_agent"] = HOSTILE
    write_log(served.log_dir / "app.log", [start, *rest], "ab")
    addresses = [*(f"{path}?since=15m" for path in PAGES), f"requests/{request_id}"]
    addresses.append("log?since=15m&q=method~script")
    for path in addresses:
        page = admin.get(path).get_data(as_text=True)
        assert "<script>alert" not in page, path
        assert "\x1b" not in page, path
        assert "\u202e" not in page, path
    assert "\\u001b[31m\\u202etxt.exe" in text(admin.get(f"requests/{request_id}"))
    group = re.search(r'href="/admin/(errors/group\?[^"]+script[^"]*)"', text(admin.get("errors")))
    assert group
    assert admin.get(group[1]).status_code == 200


def test_an_account_is_disabled_enabled_and_promoted(world: World) -> None:
    browser = Browser(world)
    browser.log_in(world.admin.email)
    owner = world.owner.id
    for path, fields, action in (
        ("state", {"state": "disabled"}, "disable_user"),
        ("state", {"state": "enabled"}, "enable_user"),
        ("role", {"role": "admin"}, "change_role"),
    ):
        answer = browser.post(f"users/{owner}/{path}", csrf_token=browser.csrf(), **fields)
        assert answer.status_code == 303
        (event,) = world.events(answer, event_type="user_action")
        assert (event["action"], event["user_id"]) == (action, world.admin.id)
        assert event["details"]["user_id"] == owner
    shown = text(browser.get(f"users/{owner}"))
    assert world.owner.email in shown
    assert "change_role" in text(browser.get("activity"))


def test_the_last_admin_stays_and_nonsense_is_refused(world: World) -> None:
    browser = Browser(world)
    browser.log_in(world.admin.email)
    admin_id, word = world.admin.id, browser.csrf()
    for path, fields, status in (
        (f"users/{admin_id}/state", {"state": "disabled"}, 409),
        (f"users/{admin_id}/role", {"role": "user"}, 409),
        (f"users/{admin_id}/role", {"role": "king"}, 400),
        (f"users/{admin_id}/state", {"state": "asleep"}, 400),
        ("users/nobody/role", {"role": "user"}, 404),
    ):
        answer = browser.post(path, csrf_token=word, **fields)
        assert answer.status_code == status, (path, fields)
        assert answer.mimetype == "text/html"


def test_a_model_shows_its_passport(served: World, admin: Browser) -> None:
    listed = text(admin.get("models"))
    (model_id,) = re.findall(r'href="/admin/models/([^"]+)">cancer<', listed)
    shown = text(admin.get(f"models/{model_id}"))
    assert "sklearn.ensemble" in shown
    assert "mean radius" in shown
    assert "ready" in shown


def test_a_model_shows_which_columns_may_be_missing(served: World, admin: Browser) -> None:
    filled = make_column_transformer((SimpleImputer(), [0, 2]), remainder="passthrough")
    numbered = make_pipeline(filled, LogisticRegression(max_iter=1000))
    numbered.fit(*load_iris(return_X_y=True))
    for name, model, told in (
        ("some", wine_columns(), "taken in alcohol, refused in the others"),
        ("numbered", numbered, "taken in columns 0, 2, refused in the others"),
        ("every", digits_boosting(), "taken"),
        ("none", iris_pipeline(), "refused"),
    ):
        uploaded = served.upload(name, model).json["data"]
        page = text(admin.get(f"models/{uploaded['id']}"))
        assert f"<dt>Missing values</dt><dd>{told}</dd>" in page


def test_a_model_that_workers_die_of_is_shown_with_the_way_out(world: World) -> None:
    data = world.upload("iris", iris_pipeline()).json["data"]
    browser = Browser(world)
    browser.log_in(world.admin.email)
    assert "stalled" not in text(browser.get("models"))
    with world.app.app_context():
        for _ in range(2):
            digest = data["passport"]["sha256"]
            world.parts.quarantine.record(Death("crashed", 4711, frozenset({digest})))
    listed = text(browser.get("models"))
    assert ">iris@1</a>" in listed
    assert ">quarantined</td>" in listed
    assert f"flask models release {data['id']}@1" in listed
    assert ">quarantined</span>" in text(browser.get(f"models/{data['id']}"))
