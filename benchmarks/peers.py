"""The servers that bench_serve compares: how each is installed, started and asked."""

import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
import requests

from benchmarks.wrk import Ask
from tests.process.server import ROOT, Server

HERE = Path(__file__).parent / "servers"
CACHE = ROOT / "build" / "bench-serve"
WORKERS = 2
START_SECONDS = 60
THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


class Contestant(ABC):
    """A server that is up, and how it is asked for predictions."""

    name: str
    about: str

    @abstractmethod
    def ask(self, model: str, rows: list[Any]) -> Ask | None:
        """Make a request, or none if it does not serve that model."""

    @abstractmethod
    def pids(self) -> list[int]:
        """Tell which processes load models."""


class Pellucid(Contestant):
    """The program itself, with all that it does: tokens, three log lines, metrics."""

    name = "Pellucid"

    def __init__(self, server: Server, token: str) -> None:
        self.server = server
        self.about = f"{' '.join(gunicorn_options())}; token, three log lines, metrics"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(self, model: str, rows: list[Any]) -> Ask:
        body = orjson.dumps({"model_id": model, "input_data": rows})
        return Ask(f"{self.server.base_url}/api/v1/predictions/predict", body, self._headers)

    def pids(self) -> list[int]:
        return sorted(self.server.worker_pids())


class Peer(Contestant):
    """Another server, in a process group of its own."""

    def __init__(
        self,
        name: str,
        about: str,
        command: Callable[[int], list[str | Path]],
        path: str,
        body: Callable[[str, list[Any]], Any],
        models: Path,
        served: frozenset[str],
        **environ: str,
    ) -> None:
        self.name, self.about = name, about
        self._body, self._served = body, served
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._path = path
        self._output = (models / f"{name.replace(' ', '-')}.out").open("ab")
        self._process = subprocess.Popen(
            list(map(str, command(port))),
            env={**os.environ, **THREADS, "MODELS": str(models), **environ},
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )

    def wait(self) -> None:
        """Wait until it predicts."""
        ask = self.ask(min(self._served), [[0.0] * 30])
        assert ask is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if requests.post(ask.url, ask.body, headers=ask.headers, timeout=5).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
        output = Path(self._output.name).read_text()[-2000:]
        raise RuntimeError(f"{self.name} does not serve: {output}")

    def ask(self, model: str, rows: list[Any]) -> Ask | None:
        if model not in self._served:
            return None
        url = self._url + self._path.format(model=model)
        body = orjson.dumps(self._body(model, rows))
        return Ask(url, body, {"Content-Type": "application/json"})

    def pids(self) -> list[int]:
        return _descendants(self._process.pid) or [self._process.pid]

    def stop(self) -> None:
        """End it and all that it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._output.close()


@cache
def gunicorn_options(**others: str) -> list[str]:
    """Say how gunicorn.conf.py serves: the bare servers are given the same, but for our worker."""
    environ = dict(os.environ)
    chosen = runpy.run_path(str(ROOT / "gunicorn.conf.py")) | others
    os.environ.clear()  # what the file sets is for the process that serves
    os.environ.update(environ)
    options = {"worker-class": "worker_class", "threads": "threads", "keep-alive": "keepalive"}
    said = [(f"--{option}", str(chosen[name])) for option, name in options.items()]
    return ["--workers", str(WORKERS), *chain(*said)]


def environment(name: str) -> Path:
    """Make an environment with what the file of that name asks for; return its programs."""
    folder = CACHE / name
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
        done = subprocess.run(
            [*pip, "-r", HERE / f"{name}.txt"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise RuntimeError(f"not installed: {' '.join(reasons)[:200]}")
        (folder / "installed").touch()
    return folder / "bin"


def bare_sklearn(models: Path, served: frozenset[str]) -> Peer:
    """Start a bare Flask server with scikit-learn."""
    programs = Path(sys.executable).parent
    return _bare("bare Flask + scikit-learn", programs, models, served, ENGINE="sklearn")


def bare_onnx(models: Path, served: frozenset[str]) -> Peer:
    """Start a bare Flask server with onnxruntime."""
    programs = environment("onnx")
    convert = [programs / "python", HERE / "convert.py", models]
    subprocess.run(convert, check=True, capture_output=True)
    converted = frozenset(path.stem for path in models.glob("*.onnx")) & served
    return _bare("bare Flask + onnxruntime", programs, models, converted, ENGINE="onnx")


def _bare(name: str, programs: Path, models: Path, served: frozenset[str], **environ: str) -> Peer:
    options = gunicorn_options(worker_class="gthread")

    def command(port: int) -> list[str | Path]:
        fixed = ["-c", "/dev/null", "--chdir", HERE, "-b", f"127.0.0.1:{port}"]
        return [programs / "gunicorn", *fixed, "--no-control-socket", *options, "bare:app"]

    def body(model: str, rows: list[Any]) -> Any:
        return {"input_data": rows}

    about = f"{' '.join(options)}; no token, no log"
    return Peer(name, about, command, "/predict/{model}", body, models, served, **environ)


def mlserver(models: Path, served: frozenset[str]) -> Peer:
    """Start MLServer with its scikit-learn runtime, in one process."""
    programs = environment("mlserver")
    ports = [free_port() for _ in range(2)]
    for model in served:
        folder = models / "mlserver" / model
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "name": model,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(models / f"{model}.joblib")},
        }
        (folder / "model-settings.json").write_bytes(orjson.dumps(settings))

    def command(port: int) -> list[str | Path]:
        settings = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": ports[0],
            "metrics_port": ports[1],
            "parallel_workers": 0,
        }
        (models / "mlserver" / "settings.json").write_bytes(orjson.dumps(settings))
        return [programs / "mlserver", "start", models / "mlserver"]

    def body(model: str, rows: list[Any]) -> Any:
        shape = [len(rows), len(rows[0])]
        return {"inputs": [{"name": "x", "datatype": "FP64", "shape": shape, "data": rows}]}

    about = "one process, parallel_workers 0"
    path = "/v2/models/{model}/infer"
    # It is started with the programs of its environment first: it looks for `python`.
    environ = {"PATH": f"{programs}:{os.environ['PATH']}"}
    return Peer("MLServer", about, command, path, body, models, served, **environ)


def litserve(models: Path, served: frozenset[str]) -> Peer:
    """Start LitServe with two workers."""
    programs = environment("litserve")

    def command(port: int) -> list[str | Path]:
        return [programs / "python", HERE / "lit.py", str(port)]

    def body(model: str, rows: list[Any]) -> Any:
        return {"model": model, "input_data": rows}

    about = f"workers_per_device {WORKERS}"
    return Peer("LitServe", about, command, "/predict", body, models, served)


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    own = [int(child) for child in children.read_text().split()] if children.exists() else []
    return own + [grandchild for child in own for grandchild in _descendants(child)]
