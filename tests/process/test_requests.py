"""What the server makes of odd requests, before any of our code sees them."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Event

import orjson
import pytest
import requests

from tests.estimators import dumped, iris_pipeline
from tests.process.hasty import HastyWorker
from tests.process.server import ADMIN_EMAIL, ADMIN_PASSWORD, Server, running

THREADS = 4
HEAD_OF_LOGIN = b"POST /api/v1/auth/login HTTP/1.1\r\nContent-Type: application/json\r\n"
MANY = b"".join(b"X-%d: 1\r\n" % number for number in range(51))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("requests"), workers=1) as started:
        yield started


def send(server: Server, request: bytes) -> tuple[int, str]:
    """Send bytes; return the status and the whole answer."""
    host, port = server.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode("latin-1")
    return int(answer.split(" ", 2)[1]), answer


@pytest.mark.parametrize(
    "header",
    ["SCRIPT_NAME: /evil", "Script-Name: /evil", "PATH_INFO: /nothing", "X-Forwarded-Host: evil"],
)
def test_nobody_says_where_the_service_is_or_what_is_asked(server: Server, header: str) -> None:
    status, answer = send(server, f"GET /admin/ HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n".encode())
    assert status == 303, answer
    assert "\r\nLocation: /admin/login" in answer


def test_nobody_says_that_a_connection_is_encrypted(server: Server) -> None:
    form = f"email={ADMIN_EMAIL}&password={ADMIN_PASSWORD}".replace(" ", "+").encode()
    status, answer = send(
        server,
        b"POST /admin/login HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s"
        % (len(form), form),
    )
    assert status == 303, answer
    assert "Set-Cookie" in answer
    assert "Secure" not in answer
    both = b"X-Forwarded-Proto: http\r\nX-Forwarded-Ssl: on\r\n"
    assert send(server, b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + both + b"\r\n")[0] == 200


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(
        tmp_path_factory.mktemp("hasty"),
        workers=1,
        threads=THREADS,
        arguments=["--worker-class", "tests.process.hasty.HastyWorker"],
    ) as started:
        yield started


def test_clients_that_send_too_slowly_are_given_up(hasty: Server) -> None:
    """As many as there are threads: while they wait, nobody else is answered."""
    head, body = b"GET /healthz HTTP/1.1\r\n", b"Host: a\r\nContent-Length: 2\r\n\r\n{"
    asked = [head, head, HEAD_OF_LOGIN + body, HEAD_OF_LOGIN + body]
    with all_threads(hasty) as slow:
        for connection, sent in zip(slow, asked, strict=True):
            connection.sendall(sent)
        time.sleep(1)
        begun = time.monotonic()
        answered = Event()
        dribble = threading.Thread(target=_dribble, args=[slow[0], answered])
        dribble.start()
        assert requests.get(f"{hasty.base_url}/healthz", timeout=60).status_code == 200
        answered.set()
        dribble.join()
        assert time.monotonic() - begun < HastyWorker.head_seconds + 5
        for connection in slow[2:]:
            assert connection.recv(4096).startswith(b"HTTP/1.1 400")
        assert time.monotonic() - begun < HastyWorker.body_seconds + 5
    cut = hasty.events(event_type="request_completed", route="/api/v1/auth/login", status_code=400)
    assert len(cut) == 2


def test_clients_that_receive_too_slowly_are_given_up(hasty: Server) -> None:
    """They ask for more than sockets hold, and do not read it."""
    token = hasty.login()
    files = {"file": ("iris.joblib", dumped(iris_pipeline))}
    assert hasty.call("POST", "models/upload", token, data={"name": "iris"}, files=files).ok
    rows = [[5.1, 3.5, 1.4, 0.2]] * 100_000
    body = orjson.dumps({"model_id": "iris", "input_data": rows, "probabilities": True})
    head = (
        f"POST /api/v1/predictions/predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    with all_threads(hasty) as slow:
        for connection in slow:
            connection.sendall(head.encode() + body)
        deadline = time.monotonic() + 30
        while len(hasty.events(event_type="prediction")) < THREADS and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(requests.Timeout):
            requests.get(f"{hasty.base_url}/healthz", timeout=1)
        begun = time.monotonic()
        assert requests.get(f"{hasty.base_url}/healthz", timeout=60).status_code == 200
        assert time.monotonic() - begun < HastyWorker.body_seconds + 5


@contextmanager
def all_threads(server: Server) -> Iterator[list[socket.socket]]:
    """Open as many connections as one worker has threads."""
    host, port = server.base_url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        opened = [socket.socket() for _ in range(THREADS)]
        for connection in map(stack.enter_context, opened):
            connection.settimeout(60)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((host, int(port)))
        yield opened


def _dribble(connection: socket.socket, answered: Event) -> None:
    """Send a byte of a header every half second."""
    with suppress(OSError):
        while not answered.wait(0.5):
            connection.sendall(b"X")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"x" * 4094 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + MANY + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: the unexpected\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 4000 + b"\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\x00: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n X: 1\r\n\r\n", 400),
        (b"<script>alert(1)</script> / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX_Y: 1\r\n\r\n", 404),  # dropped: it could pass for X-Y
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_and_shows_nothing(
    server: Server, request_bytes: bytes, status: int
) -> None:
    answered, answer = send(server, request_bytes)
    assert answered == status
    head, _, body = answer.partition("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    said = orjson.loads(body)
    assert (said["success"], said["request_id"]) == (False, headers["X-Request-ID"])
    assert headers["Content-Length"] == str(len(body))
    assert headers["X-Content-Type-Options"] == "nosniff"
    started, completed = server.events(request_id=headers["X-Request-ID"])
    assert started["event_type"] == "request_started"
    assert completed["event_type"] == "request_completed"
    assert (completed["level"], completed["status_code"]) == ("INFO", status)
    assert completed["client_ip"] == "127.0.0.1"
    for secret in ("Traceback", ".py", str(server.instance_path), "<script>"):
        assert secret not in answer
    assert send(server, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")[0] == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /canary HTTP/1.1 canary\r\nHost: a\r\n\r\n",
        b"GET canary HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G\x00T /canary HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization Bearer canary\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\n canary\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: canary\r\n\r\n",
        HEAD_OF_LOGIN + b"Transfer-Encoding: canary\r\n\r\n",
        HEAD_OF_LOGIN + b"Transfer-Encoding: chunked\r\n\r\ncanary\r\n",
    ],
)
def test_nobody_repeats_what_cannot_be_read(server: Server, request_bytes: bytes) -> None:
    status, answer = send(server, request_bytes)
    assert 400 <= status < 500
    assert "canary" not in answer
    assert "canary" not in "".join(server.lines())
    assert "canary" not in server.output.read_text()


@pytest.mark.parametrize(
    "body",
    [
        b"2\r\n{",  # and the client is gone
        b"2\r\n{}",
        b"2\r\n{}\r\n",
        b"2\r\n{}XX0\r\n\r\n",
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"2;\x00\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nno trailer\r\n\r\n",
    ],
)
@pytest.mark.parametrize("path", ["auth/login", "models/upload"])
def test_a_body_in_broken_chunks_is_the_clients_failure(
    server: Server, path: str, body: bytes
) -> None:
    media_type = "application/json" if path == "auth/login" else "multipart/form-data; boundary=b"
    if path == "models/upload":
        part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="m.joblib"\r\n\r\nx'
        body = b"%x\r\n%s\r\n%s" % (len(part), part, body)
    head = (
        f"POST /api/v1/{path} HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\n"
        f"Authorization: Bearer {server.login()}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    status, answer = send(server, head.encode() + body)
    assert status == 400, answer
    said = orjson.loads(answer.partition("\r\n\r\n")[2])
    (completed,) = server.events(request_id=said["request_id"], event_type="request_completed")
    assert (completed["level"], completed["status_code"]) == ("INFO", 400)
    assert not [*server.instance_path.glob("models/incoming/*")]
