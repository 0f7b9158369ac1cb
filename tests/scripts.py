"""Small programs that log, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from webapp.settings import PREFIX, env_name

SIGNING_KEY = "the-key-that-signs-everything-here"


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script with a log folder, and its warnings shown."""
    chosen = {
        "log_dir": folder,
        "instance_path": folder,
        "jwt_secret_key": SIGNING_KEY,
        "database_url": "postgresql://user:p4ssw0rd%21@localhost/db",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", script],
        capture_output=True,
        text=True,
        env=kept | {env_name(name): str(value) for name, value in chosen.items()},
        timeout=60,
    )


def read(folder: Path) -> list[dict[str, Any]]:
    """Parse the log of a script."""
    return [orjson.loads(line) for line in (folder / "app.log").read_bytes().splitlines()]
