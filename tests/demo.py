"""``make demo``: serve real models, make mistakes on purpose, then ask the log what happened."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import requests
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sklearn import datasets

from tests import estimators
from webapp import settings as configuration

EMAIL = "demo@example.com"
PASSWORD = "a demonstration has no secrets"
FLASK = os.path.relpath(Path(sys.executable).with_name("flask"))
APP_LOG = os.path.relpath(configuration.find_log_dir() / "app.log")

# A name, how it is fitted, and the rows that it predicts.
MODELS: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
    ("iris", estimators.iris_pipeline, lambda: datasets.load_iris().data),
    ("cancer", estimators.cancer_forest, lambda: datasets.load_breast_cancer(as_frame=True).data),
    ("digits", estimators.digits_boosting, lambda: datasets.load_digits().data),
    ("diabetes", estimators.diabetes_ridge, lambda: datasets.load_diabetes().data),
    ("wine-clusters", estimators.wine_clusters, lambda: datasets.load_wine().data),
    ("wine", estimators.wine_columns, estimators.wine_frame),
]
console = Console(highlight=False)


class Client:
    """A REST client whose request ids say which run of the demo they belong to."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.run = f"demo-{secrets.token_hex(3)}"
        self.count = 0
        self._session = requests.Session()
        self._session.trust_env = False  # a .netrc would replace the token
        # Before anything is printed: it raises where nobody answers.
        self._session.get(f"{address}/healthz", timeout=5)

    def call(self, method: str, path: str, token: str = "", **options: Any) -> requests.Response:
        """Send one request; the service keeps the id that it is given."""
        self.count += 1
        headers = options.pop("headers", {}) | {"X-Request-ID": f"{self.run}-{self.count:02}"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self._session.request(
            method, f"{self.address}/api/v1/{path}", headers=headers, timeout=30, **options
        )

    def upload(self, token: str, name: str, content: bytes) -> requests.Response:
        """Upload a file that is, or claims to be, a model."""
        parts: dict[str, Any] = {"data": {"name": name}, "files": {"file": content}}
        return self.call("POST", "models/upload", token, **parts)

    def predict(self, token: str, model: str, rows: Any, **fields: Any) -> requests.Response:
        """Ask for predictions."""
        body = {"model_id": model, "input_data": rows, **fields}
        return self.call("POST", "predictions/predict", token, json=body)


def main(address: str) -> bool:
    """Run the demonstration; say whether the service did all that it should."""
    client = Client(address)
    console.print(f"[bold]Pellucid at {address}[/], whose log is {APP_LOG}")
    _heading("1. Sign in")
    token = _sign_in(client)
    _heading("2. Upload scikit-learn models and predict over HTTP")
    all_equal = _serve_models(client, token)
    _heading("3. Make mistakes on purpose")
    all_refused, failed = _make_mistakes(client, token)
    _heading("4. Ask the log what happened")
    all_logged = _ask_log(client, failed)
    for ok, fact in (
        (all_equal, "every prediction equals scikit-learn's own"),
        (all_refused, "every mistake got its own answer"),
        (all_logged, f"each of the {client.count} requests has its last line in the log"),
    ):
        console.print(f"[green]✓[/] {fact}" if ok else f"[bold red]✗ not so: {fact}[/]")
    return all_equal and all_refused and all_logged


def _sign_in(client: Client) -> str:
    account = {"email": EMAIL, "password": PASSWORD}
    answer = client.call("POST", "auth/register", json=account)
    if answer.status_code == 409:  # an earlier run registered it
        answer = client.call("POST", "auth/login", json=account)
    if not answer.ok:
        sys.exit(f"cannot sign in: {answer.json()['message']}")
    console.print(f"{EMAIL} {'is new' if answer.status_code == 201 else 'logs in'}")
    token: str = answer.json()["data"]["access_token"]
    return token


def _serve_models(client: Client, token: str) -> bool:
    table = _table("model", "estimator", "upload", "rows", "predictions", "probabilities")
    all_equal = True
    for name, fit, load in MODELS:
        with console.status(f"{name}: fit, upload, predict"):
            estimator, X = fit(), load()
            uploaded = client.upload(token, name, estimators.dump(estimator))
            version = f"{name}@{uploaded.json()['data']['version']}" if uploaded.ok else name
            probable = hasattr(estimator, "predict_proba")
            answer = client.predict(token, version, _as_json(X), probabilities=probable)
        answered = answer.json().get("data", {})
        verdicts = [_verdict(answered.get("predictions"), estimator.predict(X))]
        if probable:
            verdicts.append(_verdict(answered.get("probabilities"), estimator.predict_proba(X)))
        all_equal = all_equal and all("equal" in verdict for verdict in verdicts)
        steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
        what = " + ".join(type(step).__name__ for step in steps)
        seconds = f"{uploaded.elapsed.total_seconds():.2f} s"
        table.add_row(version, what, seconds, str(len(X)), *verdicts)
    console.print(table)
    return all_equal


def _as_json(X: Any) -> Any:
    """Send an array as lists and a frame as objects by column name; null means missing."""
    if isinstance(X, pd.DataFrame):
        return X.astype(object).where(X.notna(), None).to_dict("records")
    return X.tolist()


def _verdict(answered: Any, expected: np.ndarray) -> str:
    """Compare labels exactly and numbers to a millionth, which every engine promises."""
    if expected.dtype.kind == "f" and np.shape(answered) == expected.shape:
        equal = np.allclose(answered, expected, rtol=1e-6, atol=1e-6)
    else:
        equal = answered == expected.tolist()
    return "[green]equal[/]" if equal else "[bold red]differ[/]"


def _make_mistakes(client: Client, token: str) -> tuple[bool, str]:
    half = estimators.dump(estimators.iris_pipeline())[:700]
    client.upload(token, "fragile", estimators.dump(estimators.fragile_neighbours()))
    wrong = {"email": EMAIL, "password": "guessed"}
    broken = {"data": '{"model_id": ', "headers": {"Content-Type": "application/json"}}
    bad_rows = [[5.1, 3.5, 1.4]], [[5.1, None, 1.4, 0.2]], [[5.1, "wide", 1.4, 0.2]]
    mistakes: list[tuple[int, str, Callable[[], requests.Response]]] = [
        (401, "a wrong password", lambda: client.call("POST", "auth/login", json=wrong)),
        (401, "no token", lambda: client.call("GET", "models")),
        (403, "the admins' page", lambda: client.call("GET", "admin/metrics", token)),
        (404, "an unknown route", lambda: client.call("GET", "modles", token)),
        (405, "a wrong method", lambda: client.call("PUT", "models", token)),
        (404, "an unknown model", lambda: client.predict(token, "irsi", [[5.1, 3.5, 1.4, 0.2]])),
        (400, "a missing column", lambda: client.predict(token, "iris", bad_rows[0])),
        (400, "a missing value", lambda: client.predict(token, "iris", bad_rows[1])),
        (400, "a word for a number", lambda: client.predict(token, "iris", bad_rows[2])),
        (400, "a name forgotten", lambda: client.predict(token, "wine", [{"alcohol": 13.2}])),
        (400, "half a JSON body", lambda: client.call("POST", "auth/login", **broken)),
        (422, "a file that is no model", lambda: client.upload(token, "text", b"hello")),
        (422, "half a model file", lambda: client.upload(token, "iris", half)),
        (500, "a model that gives up", lambda: client.predict(token, "fragile", [[1e6, 1e6]])),
    ]
    table = _table("mistake", "status", "answer", "request id")
    as_expected, request_id = True, ""
    for expected, what, make in mistakes:
        answer = make()
        as_expected = as_expected and answer.status_code == expected
        colour = "yellow" if answer.status_code == expected else "bold red"
        body, request_id = answer.json(), answer.headers["X-Request-ID"]
        told = f"[bold]{body.get('error')}[/] {escape(str(body.get('message')))}"
        table.add_row(what, f"[{colour}]{answer.status_code}[/]", told, request_id)
    console.print(table)
    return as_expected, request_id


def _ask_log(client: Client, failed: str) -> bool:
    """Run the commands that the reader is to remember."""
    _run("how many lines of each level?", f"{FLASK} logs levels --since 5m")
    _run("what failed, how often, and why?", f"{FLASK} logs errors --since 5m")
    _run("the whole story of that request", f"{FLASK} logs request {failed}")
    _run("how fast is what?", f"{FLASK} logs endpoints --since 5m")
    _run("what took longest?", f"{FLASK} logs slow --since 5m --limit 3")
    own = f'grep \'"request_id":"{client.run}\' {APP_LOG}'
    last_lines = _run(
        "each line is JSON, so grep and jq will do: how many requests of this run have ended?",
        f'{own} | grep -cE \'"message":"Request (completed|failed)"\'',
        capture=True,
    )
    console.print(
        "\n[dim]# more to try[/]",
        f"{FLASK} logs --help",
        f"{FLASK} logs search --since 5m 'level>=warning' 'message~Prediction'",
        f"jq 'select(.duration > 0.5) | {{path, duration, request_id}}' {APP_LOG}",
        f"jq -r .level {APP_LOG} | sort | uniq -c",
        "",
        sep="\n  ",
        soft_wrap=True,
    )
    return last_lines == str(client.count)


def _run(question: str, command: str, *, capture: bool = False) -> str:
    # Unbroken, so that it can be copied whole.
    console.print(f"\n[dim]# {question}[/]\n[bold cyan]$ {escape(command)}[/]", soft_wrap=True)
    stdout = subprocess.PIPE if capture else None
    ran = subprocess.run(command, shell=True, text=True, stdout=stdout)
    if capture:
        console.print(ran.stdout.strip())
    return (ran.stdout or "").strip()


def _heading(text: str) -> None:
    console.print()
    console.rule(f"[bold]{text}[/]", align="left")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=column in {"model", "status", "request id"})
    return table


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else f"http://{configuration.load_or_exit().bind}"
    try:
        sys.exit(0 if main(address.rstrip("/")) else 1)
    except requests.RequestException:
        sys.exit(f"no server answers at {address}; start one with `make run`")
