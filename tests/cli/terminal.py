"""Commands on a terminal: what a person sees, not what a pipe gets."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

FLASK = (sys.executable, "-m", "flask")


def run(*arguments: object, cwd: Path | None = None, **environ: str) -> tuple[str, int]:
    """Run ``flask …`` on a terminal 200 columns wide; give its output and exit status."""
    controller, terminal = pty.openpty()
    environment = os.environ | {"COLUMNS": "200", "TERM": "xterm-256color"} | environ
    process = subprocess.Popen(
        [*FLASK, *map(str, arguments)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=cwd,
        env=environment,
    )
    os.close(terminal)
    output = _read(controller)
    os.close(controller)
    return output.replace("\r\n", "\n"), process.wait(60)


def _read(controller: int) -> str:
    data, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([controller], [], [], 1)
        if not ready:
            continue
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            break
        if not chunk:
            break
        data += chunk
    return data.decode()
