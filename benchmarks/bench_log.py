"""What one log line costs, and what is lost: ours beside the handlers that people use.

`make bench-log` prints three tables: the price of a record, the records lost when four processes
share a rotating file, and what the hooks cost a request.
"""

import argparse
import logging
import logging.handlers
import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from concurrent_log_handler import ConcurrentRotatingFileHandler
from pythonjsonlogger.orjson import OrjsonFormatter
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from webapp import metrics
from webapp.events import canonical, handlers
from webapp.settings import load

RECORDS = 20_000
PROCESSES = 4
RECORDS_EACH = 100_000
SEGMENT_BYTES = 4 * 2**20
OURS, STDLIB, CLH = "Pellucid", "RotatingFileHandler", "concurrent-log-handler"
# Enough for 4 x 100,000 records of 450 bytes: nothing may be lost by deleting old files.
BACKUPS = 200
console = Console()

EXTRA = {
    "event_type": "prediction",
    "action": "make_prediction",
    "outcome": "success",
    "model_id": "0193a5b0-5d2a-7c3e-9f10-1b2c3d4e5f60",
    "model_version": 3,
    "rows": 1,
    "duration": 0.001234,
    "engine": "sklearn",
}
CONTEXT = {
    "request_id": "0193a5b0-5d2a-7c3e-9f10-abcdefabcdef",
    "method": "POST",
    "path": "/api/v1/predictions/predict",
    "route": "/api/v1/predictions/predict",
    "client_ip": "127.0.0.1",
}


def configure(kind: str, folder: Path) -> None:
    """Send the records of this process to a rotating file, with one kind of handler."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == OURS:
        settings = load(
            {},
            {
                "instance_path": folder,
                "log_dir": folder,
                "log_segment_bytes": SEGMENT_BYTES,
                "log_stdout": "off",
                "jwt_secret_key": "k" * 64,
            },
        )
        handlers.configure(settings, on_written=metrics.count_log_record)
        canonical.enter(canonical.RequestEvent(dict(CONTEXT), slow_seconds=1.0))
        return
    options: dict[str, Any] = {"maxBytes": SEGMENT_BYTES, "backupCount": BACKUPS}
    handler: logging.Handler
    if kind == STDLIB:
        handler = logging.handlers.RotatingFileHandler(folder / "app.log", **options)
    else:
        handler = ConcurrentRotatingFileHandler(str(folder / "app.log"), **options)
    handler.setFormatter(
        OrjsonFormatter(
            "%(levelname)s %(name)s %(message)s %(module)s %(funcName)s %(lineno)d %(process)d",
            timestamp=True,
            static_fields=CONTEXT,  # what ours takes from the request that is being served
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def write(count: int, writer: int, acknowledge: Callable[[int], None] | None = None) -> list[float]:
    """Write records, and return how long each took, in seconds."""
    log = logging.getLogger("webapp.services.predictions")
    seconds = []
    for number in range(count):
        began = time.perf_counter()
        log.info("Prediction completed", extra={**EXTRA, "writer": writer, "number": number})
        seconds.append(time.perf_counter() - began)
        if acknowledge is not None:
            acknowledge(number)
    return seconds


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a process of its own, so that no handler meets another one's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def price(kind: str, folder: Path) -> tuple[float, float]:
    """Measure one writer alone: mean seconds a record, and bytes a line."""
    configure(kind, folder)
    write(2_000, 0)
    seconds = write(RECORDS, 0)
    written = sum(path.stat().st_size for path in folder.glob("app*"))
    return sum(seconds) / len(seconds), written / (RECORDS + 2_000)


if __name__ == "__main__":
    for _ in range(3):
        for kind in (STDLIB, CLH, OURS):
            with tempfile.TemporaryDirectory() as folder:
                mean, size = in_process(price, kind, Path(folder))
                print(kind, round(mean * 1e6, 1), "us", round(size), "bytes")
