"""The program as an operator runs it: `flask prepare`, then `gunicorn` with several workers."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import requests

from tests.processes import children, runs
from webapp.settings import PREFIX, env_name

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ADMIN_EMAIL = "admin@localhost"
ADMIN_PASSWORD = "the admin of a test server"
START_SECONDS = 60
# A worker that is told to end before it listens to that, in its first moments, is killed after 30.
STOP_SECONDS = 40
COMPILE_SECONDS = 60
Event = dict[str, Any]


class Server:
    """A real gunicorn on a free port, with folders of its own."""

    def __init__(
        self, folder: Path, *, workers: int = 4, arguments: Sequence[str] = (), **settings: Any
    ) -> None:
        self.instance_path = folder / "instance"
        self.log_dir = folder / "logs"
        self.output = folder / "gunicorn.out"
        self.workers = workers
        self._arguments = arguments
        bind = f"127.0.0.1:{free_port()}"
        self.base_url = f"http://{bind}"
        chosen = {
            "bind": bind,
            "workers": workers,
            "instance_path": self.instance_path,
            "log_dir": self.log_dir,
            "admin_password": ADMIN_PASSWORD,
            **settings,
        }
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith(PREFIX)
        } | {env_name(name): str(value) for name, value in chosen.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command of the program to its end, with the settings of this server."""
        return subprocess.run(
            [BIN / command[0], *command[1:]],
            cwd=ROOT,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self) -> None:
        """Start gunicorn and wait until all workers are there and one says that it is ready."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start gunicorn."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [BIN / "gunicorn", *self._arguments],
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def stop(self) -> None:
        """Stop gunicorn as an operator would, or by force if it does not obey."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in self.worker_pids():
                os.kill(pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None

    def end(self, number: signal.Signals) -> None:
        """Send gunicorn itself a signal that ends it."""
        self._master.send_signal(number)

    def wait_for_end(self) -> int:
        """Wait until gunicorn has ended; return its exit status."""
        status = self._master.wait(STOP_SECONDS)
        self._process = None
        return status

    def wait_until_ready(self) -> None:
        """Wait until every worker place is taken and /readyz answers 200."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._master.poll() is None, self._state()
            try:
                ready = requests.get(f"{self.base_url}/readyz", timeout=5).status_code == 200
            except requests.RequestException:  # not listening yet, or no worker takes it yet
                ready = False
            if ready and len(self.worker_pids()) == self.workers:
                return
            time.sleep(0.05)
        raise AssertionError(f"not ready in {START_SECONDS} s; {self._state()}")

    def worker_pids(self) -> set[int]:
        """Tell which workers live now."""
        return children(self._master.pid) - self._launchers()

    def launcher_pid(self) -> int:
        """Tell which process starts programs for the workers."""
        (launcher,) = self._launchers()
        return launcher

    def judge_pids(self) -> set[int]:
        """Tell which fork servers for the judging of uploads live now."""
        launched = set().union(*map(children, self._launchers()))
        return {pid for pid in launched if runs(pid, "webapp.ml.loading.forkserver")}

    def kill(self, *pids: int) -> None:
        """Kill workers without a warning and wait until others have taken their places."""
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + START_SECONDS
        while self.worker_pids() & set(pids) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.wait_until_ready()

    def reload(self) -> None:
        """Have all workers replaced, as an operator would, and wait until the old ones are gone."""
        before = self.worker_pids()
        self._master.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + START_SECONDS
        while self.worker_pids() & before and time.monotonic() < deadline:
            time.sleep(0.02)
        self.wait_until_ready()

    def call(self, method: str, path: str, token: str = "", **options: Any) -> requests.Response:
        """Send one request on a connection of its own; ``path`` is below the API's prefix."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self.base_url}/api/v1/{path}"
        return requests.request(method, url, headers=headers, timeout=30, **options)

    def login(self, email: str = ADMIN_EMAIL, password: str = ADMIN_PASSWORD) -> str:
        """Get an access token, by default the admin's."""
        answer = self.call("POST", "auth/login", json={"email": email, "password": password})
        token: str = answer.json()["data"]["access_token"]
        return token

    def make_key(self, *scopes: str) -> str:
        """Get an API key of the admin's."""
        made = {"name": "client", "scopes": scopes}
        answer = self.call("POST", "auth/api-keys", self.login(), json=made)
        key: str = answer.json()["data"]["key"]
        return key

    def wait_until_compiled(self, token: str, name: str) -> Any:
        """Wait for what came of compiling the newest version of a model."""
        deadline = time.monotonic() + COMPILE_SECONDS
        while time.monotonic() < deadline:
            model = self.call("GET", f"models/{name}", token).json()["data"]
            found = model["versions"][-1]["passport"]["compilation"]
            if found is not None:
                return found
            time.sleep(0.05)
        raise AssertionError(f"{name} was not compiled in {COMPILE_SECONDS} s")

    def lines(self) -> list[str]:
        """Read the live log, line by line."""
        return (self.log_dir / "app.log").read_text().splitlines()

    def events(self, **fields: Any) -> list[Event]:
        """Parse the live log: all lines, or those with these fields."""
        return [
            event
            for event in map(orjson.loads, filter(None, self.lines()))  # an empty one does no harm
            if all(event.get(name) == value for name, value in fields.items())
        ]

    def _launchers(self) -> set[int]:
        return {pid for pid in children(self._master.pid) if runs(pid, "webapp.launcher")}

    def _state(self) -> str:
        """Describe what a developer must know of a server that does not do as it should."""
        log = self.lines()[-20:] if (self.log_dir / "app.log").exists() else []
        parts = [f"gunicorn ended with {self._master.poll()}", self.output.read_text(), *log]
        return "\n".join(parts)

    @property
    def _master(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started"
        return self._process


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Server]:
    """Prepare and start a server in a folder; stop it at the end."""
    server = Server(folder, **settings)
    prepared = server.run("flask", "prepare")
    assert prepared.returncode == 0, prepared.stderr
    try:
        server.start()
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
