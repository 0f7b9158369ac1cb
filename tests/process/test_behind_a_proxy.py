"""nginx in front, as deploy/nginx.conf has it: TLS, the client's address, uploads, compression."""

import getpass
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
import requests
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from tests.process.server import ADMIN_EMAIL, ADMIN_PASSWORD, ROOT, Server, free_port, running

HOST = "localhost"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("proxied")
    with running(folder, workers=2, trusted_proxies=1, allowed_hosts=f"{HOST},127.0.0.1") as server:
        yield server


@pytest.fixture(scope="module")
def proxy(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, requests.Session]]:
    """Start nginx with the site of the project; give its address and a client that trusts it."""
    for command in ("nginx", "openssl"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    certificate, key, port = folder / "server.pem", folder / "server.key", free_port()
    request = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN={HOST}"
    names = ["-addext", f"subjectAltName=DNS:{HOST}", "-keyout", key, "-out", certificate]
    subprocess.run([*request.split(), *names], check=True, capture_output=True)
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    for there, here in {
        "127.0.0.1:8000": server.base_url.removeprefix("http://"),
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server_name models.example.com": f"server_name {HOST}",
        "/etc/ssl/models.example.com.pem": str(certificate),
        "/etc/ssl/private/models.example.com.key": str(key),
    }.items():
        assert there in site
        site = site.replace(there, here)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user {getpass.getuser()};\npid {folder}/pid;\nerror_log stderr;\n"
        "daemon off;\nevents {}\n"
        f"http {{\naccess_log off;\n{temporary}{site}}}\n"
    )
    client = requests.Session()
    client.trust_env = False  # which could name other certificates
    client.verify = str(certificate)
    url = f"https://{HOST}:{port}"
    with subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-p", folder]) as nginx:
        try:
            _wait(client, url)
            yield url, client
        finally:
            nginx.terminate()


def _wait(client: requests.Session, url: str) -> None:
    for _ in range(100):
        try:
            client.get(f"{url}/healthz", timeout=5)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("nginx does not answer")


def test_a_model_is_uploaded_and_used_through_the_proxy(
    server: Server, proxy: tuple[str, requests.Session], tmp_path: Path
) -> None:
    url, client = proxy
    X, y = load_digits(return_X_y=True)
    forest = RandomForestClassifier(random_state=0, n_estimators=100).fit(X, y)
    joblib.dump(forest, tmp_path / "forest.joblib")
    assert (tmp_path / "forest.joblib").stat().st_size > 2**20  # what nginx takes by itself
    headers = {"Authorization": f"Bearer {server.login()}"}
    with (tmp_path / "forest.joblib").open("rb") as file:
        uploaded = client.post(
            f"{url}/api/v1/models/upload",
            headers=headers,
            files={"file": file},
            data={"name": "forest"},
        )
    assert uploaded.status_code == 201, uploaded.text
    answer = client.post(
        f"{url}/api/v1/predictions/predict",
        headers={**headers, "X-Request-ID": "through-the-proxy"},
        json={"model_id": "forest", "input_data": X.tolist()},
    )
    assert answer.json()["data"]["predictions"] == forest.predict(X).tolist()
    assert answer.headers["X-Request-ID"] == "through-the-proxy"
    assert answer.headers["Content-Encoding"] == "gzip"


def test_the_log_has_the_address_of_the_client_and_not_what_it_claims(
    server: Server, proxy: tuple[str, requests.Session]
) -> None:
    url, client = proxy
    sent = {"X-Request-ID": "claims-an-address", "X-Forwarded-For": "8.8.8.8"}
    client.get(f"{url}/api/v1/auth/me", headers=sent)
    (ended,) = server.events(request_id="claims-an-address", message="Request completed")
    assert ended["client_ip"] == "127.0.0.1"
    assert ended["status_code"] == 401


def test_the_figures_of_the_service_stay_inside(
    server: Server, proxy: tuple[str, requests.Session]
) -> None:
    url, client = proxy
    assert requests.get(f"{server.base_url}/metrics").status_code == 200
    assert client.get(f"{url}/metrics").status_code == 403


def test_an_admin_signs_in_with_cookies_for_tls_alone(
    proxy: tuple[str, requests.Session],
) -> None:
    url, client = proxy
    signed_in = client.post(
        f"{url}/admin/login",
        data={"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD},
        headers={"Origin": url},
    )
    assert signed_in.url == f"{url}/admin/"
    assert "Overview" in signed_in.text
    assert client.cookies
    assert all(cookie.secure for cookie in client.cookies)
