"""Uploads under gunicorn: who judges them, and what an operator trusts."""

import io
import time
from pathlib import Path

import requests

from tests.estimators import dumped, iris_pipeline
from tests.process.server import running

TRUSTED = "fractions.Fraction"
GONE_SECONDS = 10


def test_all_workers_share_one_judge_and_the_log_says_what_is_trusted(tmp_path: Path) -> None:
    with running(tmp_path, workers=2, trusted_globals=TRUSTED) as server:
        token = server.login()
        for number in range(6):
            uploaded = server.call(
                "POST",
                "models/upload",
                token,
                files={"file": io.BytesIO(dumped(iris_pipeline))},
                data={"name": f"iris-{number}"},
            )
            assert uploaded.status_code == 201
        uploads = server.events(event_type="request_completed", route="/api/v1/models/upload")
        assert len({line["pid"] for line in uploads}) == 2, "both workers took some"
        (judge,) = server.judge_pids()
        (line,) = server.events(message="Names trusted by the operator")
        assert (line["level"], line["details"]) == ("WARNING", {"names": [TRUSTED]})
        ready = requests.get(f"{server.base_url}/readyz", timeout=5).json()
        assert ready["sandbox"] in {"seccomp", "rlimits"}
    deadline = time.monotonic() + GONE_SECONDS
    while Path(f"/proc/{judge}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{judge}").exists(), "it ends with the server"
