"""Questions are exact while several processes write, the log rotates and the archiver works."""

import subprocess
import sys
import time
from pathlib import Path

from webapp.logstore.archive import archive_lock, archive_segments
from webapp.logstore.integrity import verify
from webapp.logstore.reader import LogReader

WRITERS = 3
LINES = 8000
WRITER = """
import logging, sys
from pathlib import Path
from webapp.events.rotation import SharedRotatingHandler

handler = SharedRotatingHandler(Path(sys.argv[1]), 64 * 1024)
logging.basicConfig(handlers=[handler], level=logging.INFO)
for number in range(int(sys.argv[2])):
    logging.getLogger("writer").info("line", extra={"rows": number})
"""
ARCHIVER = """
import sys
from pathlib import Path
from webapp.logstore.archive import archive_lock, archive_segments

with archive_lock(Path(sys.argv[1])):
    while not Path(sys.argv[1], "stop").exists():
        archive_segments(Path(sys.argv[1]))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])


def test_no_line_is_missed_or_met_twice_at_any_moment(tmp_path: Path) -> None:
    archiver = start(ARCHIVER, tmp_path)
    writers = [start(WRITER, tmp_path, LINES) for _ in range(WRITERS)]
    reader = LogReader(tmp_path)
    sql = "SELECT pid, count(*), count(DISTINCT seq), max(seq) FROM events GROUP BY pid"
    before: dict[int, int] = {}
    deadline = time.monotonic() + 120
    while any(writer.poll() is None for writer in writers):
        assert time.monotonic() < deadline
        for pid, count, distinct, last in reader.rows(sql):
            # All numbers up to the last one that is seen, each once, and never fewer than before.
            assert count == distinct == last >= before.get(pid, 0)
            before[pid] = last
    (tmp_path / "stop").touch()
    assert archiver.wait(60) == 0
    with archive_lock(tmp_path):
        archive_segments(tmp_path)
    assert len(before) == WRITERS
    checks = [check for check in verify(reader) if check.kind == "process"]
    assert [(c.events, c.missing, c.duplicates) for c in checks] == [(LINES, 0, 0)] * WRITERS
    assert len(list(tmp_path.glob("archive/*/*.parquet"))) > 50
