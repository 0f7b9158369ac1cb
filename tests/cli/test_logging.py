"""What a command logs, and what it leaves to the terminal."""

from pathlib import Path

from tests.scripts import read, run

_COMMAND = """
import logging, threading, warnings
from flask.cli import FlaskGroup
from webapp.app import create_app

app = create_app()

@app.cli.command("odd")
def odd():
    logging.getLogger("a.library").warning("noted")
    warnings.warn("careful", UserWarning)
    print("the answer")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    raise ValueError("why")

FlaskGroup(create_app=lambda: app).main(["odd"])
"""


def test_a_command_on_a_terminal_logs_and_otherwise_keeps_pythons_way(tmp_path: Path) -> None:
    ended = run(_COMMAND, tmp_path)
    assert [event["message"] for event in read(tmp_path)] == ["noted"]
    assert ended.stdout == "the answer\n"
    assert "UserWarning: careful" in ended.stderr
    assert "ZeroDivisionError: division by zero" in ended.stderr
    assert ended.stderr.endswith("ValueError: why\n")
    assert ended.returncode == 1
