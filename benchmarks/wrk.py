"""Load a server with wrk, which Debian has, and read what it saw."""

import re
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Ask:
    """A request that can be sent again and again: a POST if it has a body."""

    url: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def script(self) -> str:
        """Say in wrk's language what to send."""
        lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in self.headers.items()]
        if self.body:
            lines += ['wrk.method = "POST"', f"wrk.body = [==[{self.body.decode()}]==]"]
        return "\n".join(lines)


@dataclass(frozen=True)
class Run:
    """What wrk saw; times in seconds. ``bad`` counts answers other than 2xx, and none at all."""

    per_second: float
    p50: float
    p99: float
    bad: int

    @classmethod
    def of(cls, runs: list[Self]) -> Self:
        """Take the medians of several runs, and the sum of what was bad."""
        return cls(
            statistics.median(run.per_second for run in runs),
            statistics.median(run.p50 for run in runs),
            statistics.median(run.p99 for run in runs),
            sum(run.bad for run in runs),
        )


def load_server(ask: Ask, seconds: int, connections: int) -> Run:
    """Send a request over and over, on so many connections at once."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(ask.script)
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
        try:
            done = subprocess.run(
                [*command, "-s", script.name, ask.url], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise SystemExit("wrk is not installed") from None
    return _read(done.stdout + done.stderr)


def _read(output: str) -> Run:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if rate is None:
        raise SystemExit(f"wrk failed: {output}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    failed = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    count = int(bad[1]) if bad else 0
    count += sum(map(int, failed.groups())) if failed else 0
    return Run(float(rate[1]), _quantile(output, 50), _quantile(output, 99), count)


def _quantile(output: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)
    if found is None:
        raise SystemExit(f"wrk shows no quantiles: {output}")
    return float(found[1]) * _UNITS[found[2]]
