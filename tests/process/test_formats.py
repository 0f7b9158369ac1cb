"""Every format and protocol against a real gunicorn, for one estimator of each sort."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.contract import wire
from tests.contract.test_formats_agree import SOME, check, fitted, formats
from tests.contract.wire import Client
from tests.estimators import dump
from tests.process.server import Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("formats"), workers=2) as started:
        token = started.login()
        for kind in SOME:
            files = {"file": io.BytesIO(dump(fitted(kind)[0]))}
            data = {"name": _name(kind)}
            uploaded = started.call("POST", "models/upload", token, data=data, files=files)
            assert uploaded.status_code == 201, uploaded.text
        yield started


@pytest.mark.parametrize("kind", SOME)
def test_every_format_gives_the_estimators_own_predictions(server: Server, kind: str) -> None:
    made = {"name": "formats", "scopes": ["predict"]}
    key = server.call("POST", "auth/api-keys", server.login(), json=made).json()["data"]["key"]

    def post(path: str, content: bytes, params: Any, headers: Any) -> tuple[Any, bytes]:
        url, headers = f"{server.base_url}{path}", {**headers, "Authorization": f"Bearer {key}"}
        answer = requests.post(url, content, params=params, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.headers, answer.content

    # To the last bit: what a compiled model answers is equal to one part in a million.
    for form in formats(kind):
        check(Client(post, _name(kind), {"engine": "sklearn"}), kind, form)


def test_a_client_that_sends_csv_in_chunks_is_answered(server: Server) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"1,2,3,4\n"
        yield b"5,3,1,0.2\n" * 1000

    headers = {"Authorization": f"Bearer {server.login()}", "Content-Type": wire.CSV}
    url = f"{server.base_url}/api/v1/predictions/predict"
    params = {"model_id": _name(SOME[0])}
    answer = requests.post(url, chunks(), params=params, headers=headers, timeout=30)
    assert answer.json()["data"]["rows"] == 1001


def _name(kind: str) -> str:
    return kind.lower().replace("_", "-")
