"""Events as the service writes them, for tests and benchmarks that need a log and no service."""

import heapq
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from webapp.events.schema import UNMATCHED

Event = dict[str, Any]
START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
PREDICT = "/api/v1/predictions/predict"
MODELS = "/api/v1/models"
LOGIN = "/api/v1/auth/login"
# message, logger, module and function of the lines that the service writes
_ORIGINS = {
    "request_started": ("Request started", "webapp.web.hooks", "hooks", "open_event"),
    "request_completed": ("Request completed", "webapp.web.hooks", "hooks", "close_event"),
    "request_failed": ("Request failed", "webapp.web.hooks", "hooks", "close_event"),
    "prediction": ("Prediction completed", "webapp.services.predictions", "predictions", "predict"),
    "slow_query": ("Slow database query", "webapp.events.timing", "timing", "after_cursor_execute"),
    "model_loaded": ("Model loaded", "webapp.ml.cache", "cache", "load"),
    "log": ("Worker ready", "gunicorn.error", "glogging", "info"),
}
_TRACEBACK = """Traceback (most recent call last):
  File "/srv/pellucid/webapp/ml/predictor.py", line 88, in predict
    y = self.engine.predict(X)
  File "/srv/venv/lib/python3.11/site-packages/sklearn/pipeline.py", line 602, in predict
    return self.steps[-1][1].predict(Xt, **params)
{}: {}
"""


def timestamp(moment: datetime) -> str:
    """Write a moment as every line of the log does."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def to_line(event: Event) -> bytes:
    """Write one event as one line."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def write_log(path: Path, events: Iterable[Event], mode: str = "wb") -> Path:
    """Write events to a file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, mode) as file:
        file.writelines(map(to_line, events))
    return path


def uuid7(moment: datetime, rng: random.Random) -> str:
    """Make a UUID of version 7 for a moment, repeatably."""
    milliseconds = int(moment.timestamp() * 1000)
    random_bits = (rng.getrandbits(12) << 64) | (0b10 << 62) | rng.getrandbits(62)
    return str(UUID(int=(milliseconds << 80) | (7 << 76) | random_bits))


def failure(kind: str = "ValueError", fingerprint: str = "f1", text: str = "bad split") -> Event:
    """Name what a line about an exception says."""
    return {
        "exception_type": kind,
        "exception": _TRACEBACK.format(kind, text),
        "fingerprint": fingerprint,
    }


@dataclass
class Process:
    """One worker process: it numbers its lines."""

    pid: int = 4711
    host: str = "web-1"
    seq: int = 0

    def event(self, moment: datetime, event_type: str = "log", **fields: Any) -> Event:
        """Make the next line of this process; ``fields`` override what is usual."""
        self.seq += 1
        message, logger, module, function = _ORIGINS.get(
            event_type, (event_type, "webapp", "app", "main")
        )
        head = {"timestamp": timestamp(moment), "level": "INFO", "message": message}
        origin = {"logger": logger, "module": module, "function": function, "line": 42}
        process = {"host": self.host, "pid": self.pid, "seq": self.seq}
        return head | {"event_type": event_type} | fields | origin | process

    def request(
        self,
        moment: datetime = START,
        *,
        route: str = PREDICT,
        method: str = "POST",
        status: int = 200,
        duration: float = 0.02,
        request_id: str = "request-0001",
        user_id: str | None = "user-1",
        ended_as: str | None = None,
        between: Iterable[tuple[str, Event]] = (),
        **fields: Any,
    ) -> list[Event]:
        """Make all lines of one request: started, what lies between, completed or failed."""
        common: Event = {"request_id": request_id}
        if user_id:
            common["user_id"] = user_id
        common |= {"method": method, "path": fields.pop("path", route), "route": route}
        common["client_ip"] = "10.1.2.3"
        if fields.pop("internal", False):
            common["internal"] = True
        level = "INFO"
        if status >= 500:
            level = "ERROR"
        elif duration > 1 or status in (401, 403, 429):
            level = "WARNING"
        end = moment + timedelta(seconds=duration)
        last = {
            "status_code": status,
            "duration": duration,
            "request_bytes": 212,
            "response_bytes": 184,
            "db_queries": 2,
            "db_duration": round(duration / 10, 6),
        }
        return [
            self.event(moment, "request_started", **common, user_agent="python-requests/2.32"),
            *(self.event(end, kind, **(common | own)) for kind, own in between),
            self.event(
                end,
                ended_as or ("request_failed" if status >= 500 else "request_completed"),
                **(common | last | {"level": level} | fields),
            ),
        ]


def traffic(
    requests: int,
    *,
    start: datetime = START,
    per_second: float = 20.0,
    seed: int = 7,
    processes: int = 4,
) -> Iterator[Event]:
    """Make the lines of many requests to several workers, in the order of writing."""
    rng = random.Random(seed)
    cast = _Cast(rng)
    workers = [Process(pid=4711 + number) for number in range(processes)]
    written: Counter[int] = Counter()
    pending: list[tuple[str, int, Event]] = []  # the lines of requests that overlap
    moment, number = start, 0
    for _ in range(requests):
        moment += timedelta(seconds=rng.expovariate(per_second))
        for event in cast.request(rng.choice(workers), moment):
            number += 1
            heapq.heappush(pending, (event["timestamp"], number, event))
        while pending and pending[0][0] <= timestamp(moment):
            yield _number(heapq.heappop(pending)[2], written)
    while pending:
        yield _number(heapq.heappop(pending)[2], written)


def _number(event: Event, written: Counter[int]) -> Event:
    written[event["pid"]] += 1
    event["seq"] = written[event["pid"]]
    return event


class _Cast:
    """Users and models of the made-up traffic, always the same, and what they do."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        known = random.Random(0)
        self.users = [str(UUID(int=known.getrandbits(128), version=4)) for _ in range(200)]
        self.models = [
            {
                "model_id": str(UUID(int=known.getrandbits(128), version=4)),
                "model_name": f"model-{n}",
                "model_version": 1 + n % 3,
            }
            for n in range(12)
        ]
        self.kinds: list[Callable[..., list[Event]]] = [
            self._prediction,
            self._listing,
            self._login,
            self._bad_input,
            self._unmatched,
            self._slow,
            self._failure,
            self._readiness,
            self._unfinished,
        ]

    def request(self, worker: Process, moment: datetime) -> list[Event]:
        (make,) = self.rng.choices(self.kinds, cum_weights=(70, 82, 87, 93, 95, 97, 98, 99.8, 100))
        user = min(int(self.rng.paretovariate(0.7)) - 1, len(self.users) - 1)
        common: Event = {
            "request_id": uuid7(moment, self.rng),
            "user_id": self.users[user],
            "duration": round(self.rng.lognormvariate(-4.5, 0.8), 6),
        }
        return make(worker, moment, common, user)

    def _made(self, common: Event, model: Event, **own: Any) -> tuple[str, Event]:
        facts = {
            "action": "make_prediction",
            **model,
            "rows": self.rng.choice((1, 1, 1, 10, 100)),
            "duration": round(common["duration"] / 3, 6),
            "engine": "sklearn",
            "outcome": "success",
        }
        return "prediction", facts | own

    def _prediction(self, worker: Process, moment: datetime, common: Event, _: int) -> list[Event]:
        model = self.rng.choice(self.models)
        made = self._made(common, model)
        work = {"rows": made[1]["rows"], "predict_duration": made[1]["duration"], "cache_hit": True}
        return worker.request(moment, between=[made], **common, **model, **work)

    def _listing(self, worker: Process, moment: datetime, common: Event, _: int) -> list[Event]:
        return worker.request(moment, route=MODELS, method="GET", **common)

    def _login(self, worker: Process, moment: datetime, common: Event, user: int) -> list[Event]:
        refused = self.rng.random() < 0.1
        action = {"action": "login", "outcome": "success", "email": f"user{user}@example.com"}
        if refused:
            action |= {"outcome": "failure", "reason": "wrong_password", "level": "WARNING"}
            common |= {"user_id": None, "error": "AuthenticationError"}
        action["message"] = "User action: login"
        status = 401 if refused else 200
        between = [("user_action", action)]
        return worker.request(moment, route=LOGIN, status=status, between=between, **common)

    def _bad_input(self, worker: Process, moment: datetime, common: Event, _: int) -> list[Event]:
        model = self.rng.choice(self.models)
        why = {"outcome": "failure", "reason": "wrong_width", "level": "WARNING"}
        made = self._made(common, model, message="Prediction failed", **why)
        error = {"error": "InvalidInputError", **model}
        return worker.request(moment, status=400, between=[made], **common, **error)

    def _unmatched(self, worker: Process, moment: datetime, common: Event, _: int) -> list[Event]:
        path = f"/{self.rng.choice(('wp-login.php', '.env', 'api', 'robots.txt'))}"
        common |= {"user_id": None, "path": path, "error": "NotFound"}
        return worker.request(moment, route=UNMATCHED, method="GET", status=404, **common)

    def _slow(self, worker: Process, moment: datetime, common: Event, _: int) -> list[Event]:
        common["duration"] = round(1 + self.rng.expovariate(1.0), 6)
        query = (
            f"SELECT * FROM registered_models WHERE owner_id = ? LIMIT {self.rng.choice((1, 2))}"
        )
        slow = {"level": "WARNING", "duration": common["duration"] / 2, "query": query}
        return worker.request(moment, between=[("slow_query", slow)], route=MODELS, **common)

    def _failure(self, worker: Process, moment: datetime, common: Event, _: int) -> list[Event]:
        model = self.rng.choice(self.models)
        number = self.rng.randrange(3)
        what = failure(("ValueError", "KeyError", "MemoryError")[number], f"f{number}")
        operation = {"operation": "predict", "duration": common["duration"], "level": "ERROR"}
        between = [("operation_failed", operation | what)]
        error = {"error": "PredictionError", **model, **what}
        return worker.request(moment, status=500, between=between, **common, **error)

    def _readiness(self, worker: Process, moment: datetime, common: Event, _: int) -> list[Event]:
        common |= {"user_id": None, "level": "WARNING", "internal": True}
        common["ended_as"] = "request_completed"
        return worker.request(moment, route="/readyz", method="GET", status=503, **common)

    def _unfinished(self, worker: Process, moment: datetime, common: Event, _: int) -> list[Event]:
        return worker.request(moment, **common)[:1]
