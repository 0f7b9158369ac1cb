"""Every format and protocol against a real gunicorn, for one estimator of each sort."""

import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.contract import wire
from tests.contract.test_formats_agree import (
    SOME,
    check,
    check_engine,
    expected,
    fitted,
    formats,
    table,
)
from tests.contract.wire import Client
from tests.estimators import dump
from tests.process.server import Server, running

FOLLOW_SECONDS = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("formats"), workers=3) as started:
        token = started.login()
        for kind in SOME:
            files = {"file": io.BytesIO(dump(fitted(kind)[0]))}
            data = {"name": _name(kind)}
            uploaded = started.call("POST", "models/upload", token, data=data, files=files)
            assert uploaded.status_code == 201, uploaded.text
        for kind in SOME:
            started.wait_until_compiled(token, _name(kind))
        time.sleep(FOLLOW_SECONDS)
        yield started


@pytest.fixture(scope="module", params=["token", "key"])
def credential(server: Server, request: pytest.FixtureRequest) -> str:
    """What a person sends, and what a machine client does."""
    return server.login() if request.param == "token" else server.make_key("predict")


@pytest.mark.parametrize("kind", SOME)
def test_every_format_gives_the_estimators_own_predictions_by_every_engine(
    server: Server, kind: str, credential: str
) -> None:
    def post(path: str, content: bytes, params: Any, headers: Any) -> tuple[Any, bytes]:
        headers = {**headers, "Authorization": f"Bearer {credential}"}
        url = f"{server.base_url}{path}"
        answer = requests.post(url, content, params=params, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.headers, answer.content

    original, chosen = (Client(post, _name(kind), p) for p in ({"engine": "sklearn"}, {}))
    own = expected(kind)
    answer = wire.json_lists(chosen, table(kind))
    check_engine(answer, own)
    for form in formats(kind):
        check(original, kind, form, own)
        check(chosen, kind, form, answer)


def test_a_client_that_sends_csv_in_chunks_is_answered(server: Server, credential: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"1,2,3,4\n"
        yield b"5,3,1,0.2\n" * 1000

    headers = {"Authorization": f"Bearer {credential}", "Content-Type": wire.CSV}
    url = f"{server.base_url}/api/v1/predictions/predict"
    params = {"model_id": _name(SOME[0])}
    answer = requests.post(url, chunks(), params=params, headers=headers, timeout=30)
    assert answer.json()["data"]["rows"] == 1001


def _name(kind: str) -> str:
    return kind.lower().replace("_", "-")
