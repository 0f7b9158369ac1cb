"""Several processes share a log that rotates, and one is killed: nothing is lost."""

import logging
import multiprocessing
import threading
from pathlib import Path
from typing import Any

from benchmarks import bench_log

RECORDS = 10_000
THREADS = 8
RECORDS_OF_A_THREAD = 500


def test_no_acknowledged_record_is_lost_torn_or_doubled(tmp_path: Path) -> None:
    result = bench_log.share(bench_log.OURS, tmp_path, RECORDS)
    segments = list(tmp_path.glob("app-*.jsonl"))
    assert len(segments) >= 4, "it rotated while they wrote"
    assert result["acknowledged"] >= bench_log.PROCESSES * RECORDS * 0.9
    assert result["lost"] == 0
    assert result["twice"] == 0
    assert result["torn"] <= 1, "the last line of the killed one, at the most"


def test_the_threads_of_several_processes_share_it_too(tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_in_threads, args=(tmp_path, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found, broken = bench_log.read(tmp_path)
    assert broken == 0
    assert len(found) == 3 * THREADS * RECORDS_OF_A_THREAD
    assert set(found.values()) == {1}


def _write_in_threads(folder: Path, process: int) -> None:
    bench_log.configure(bench_log.OURS, folder)

    def write(thread: int) -> None:
        for number in range(RECORDS_OF_A_THREAD):
            extra = {"writer": process * THREADS + thread, "number": number}
            logging.getLogger("threads").info("One of many", extra=extra)

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
