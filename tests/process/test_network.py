"""A confined worker reaches what it needs by the network, by name, and finds it again.

Redis, and the PostgreSQL of TEST_DATABASE_URL if there is one.
"""

import secrets
from pathlib import Path

import pytest
import redis
import sqlalchemy

from tests.process.server import ADMIN_EMAIL, running
from tests.process.test_launcher import upload
from webapp import seccomp

REDIS_URL = "redis://localhost:6379/"


@pytest.fixture
def redis_client() -> redis.Redis:
    client = redis.Redis.from_url(REDIS_URL, socket_connect_timeout=1)
    try:
        client.ping()
    except redis.ConnectionError:
        pytest.skip(f"no Redis answers at {REDIS_URL}")
    return client


def test_a_confined_worker_reaches_its_servers_by_name_and_finds_them_again(
    tmp_path: Path, unmigrated_url: str, redis_client: redis.Redis
) -> None:
    if not seccomp.available():
        pytest.skip("libseccomp is not installed")
    name = f"confined-{secrets.token_hex(4)}"
    database = sqlalchemy.make_url(unmigrated_url)
    chosen = database
    if database.host:
        chosen = database.set(host="localhost").update_query_dict({"application_name": name})
    settings = {
        "database_url": chosen.render_as_string(hide_password=False),
        "redis_url": f"{REDIS_URL}?client_name={name}",
    }
    with running(tmp_path, workers=1, **settings) as server, redis_client:
        (worker,) = server.worker_pids()
        for number in range(3):
            token = server.login()  # counted in Redis
            assert upload(server, token, f"iris-{number}").status_code == 201
            wrong = server.call(
                "POST", "auth/login", json={"email": ADMIN_EMAIL, "password": "wrong"}
            )
            assert wrong.status_code == 401
            cut_off(redis_client, name)
            if database.host:
                cut_off_database(database, name)
        assert server.worker_pids() == {worker}
        status = Path(f"/proc/{worker}/status").read_text()
        assert "\nSeccomp:\t2\n" in status


def cut_off(client: redis.Redis, name: str) -> None:
    """End the connections of that name; there must be some."""
    mine = [each["id"] for each in client.client_list() if each["name"] == name]
    assert mine
    for number in mine:
        client.client_kill_filter(_id=number)


def cut_off_database(database: sqlalchemy.URL, name: str) -> None:
    """End the connections of that name; there must be some."""
    engine = sqlalchemy.create_engine(database)
    ended = sqlalchemy.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"
    )
    with engine.begin() as connection:
        assert connection.execute(ended, {"name": name}).fetchall()
    engine.dispose()
