"""The README's session, run as it stands against a real server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.server import BIN, ROOT, Server

README = ROOT / "README.md"
BLOCK = re.compile(r"<!-- session: (\w+) -->\n```\w+\n(.*?)```", re.DOTALL)
HERE = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the project's root: the README's paths are right in it."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(BIN)
    return folder


def test_the_session_of_the_readme_works_as_printed(folder: Path) -> None:
    blocks = BLOCK.findall(README.read_text())
    assert [language for language, _ in blocks] == ["python", "sh", "sh", "sh"]
    (_, python), (_, register_to_predict), (_, ask_the_log), (_, predict_csv) = blocks
    subprocess.run([sys.executable, "-c", python], cwd=folder, check=True)
    server = Server(folder, workers=2)
    assert server.run("flask", "prepare").returncode == 0
    server.start()
    try:
        asked = (register_to_predict + predict_csv).replace(HERE, server.base_url)
        answers = _shell(folder, asked)
        assert answers.count('"success":true') == 3
        assert '"predictions":[0]' in answers
        assert "prediction,probability_0,probability_1,probability_2\n0,0.9" in answers
        story = _shell(folder, ask_the_log)
        assert "Prediction completed" in story
        assert story.count("my-first-prediction") >= 9, "all lines, and from three commands"
    finally:
        server.stop()


def _shell(folder: Path, script: str) -> str:
    environ = {name: value for name, value in os.environ.items() if "PELLUCID" not in name}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
