"""Metrics are counted across workers, and never at the cost of a request."""

import os
import subprocess
import sys
from pathlib import Path

from tests.disk import small_disk

_ON_A_FULL_DISK = """
import os, sys
from pathlib import Path
from tests.disk import fill
from webapp import metrics

metrics.count_log_record("INFO")
filler = fill(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
for number in range(60):
    metrics.observe_request(f"/{number}", "GET", 200, 0.1)
filler.unlink()
for number in range(60):
    metrics.observe_request(f"/{number}", "GET", 200, 0.1)
sys.stdout.buffer.write(metrics.exposition())
"""


def test_counting_survives_a_full_disk_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "512k") as folder:
        counted = subprocess.run(
            [sys.executable, "-c", _ON_A_FULL_DISK],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
            capture_output=True,
            text=True,
        )
    assert counted.returncode == 0, counted.stderr
    counts = [line for line in counted.stdout.splitlines() if "seconds_count{" in line]
    assert len(counts) == 60 + 1  # and the one of model loads, which begins at 0
    assert sum(line.endswith(" 2.0") for line in counts) == 60
