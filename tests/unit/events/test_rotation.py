"""One file, many writers: it rotates, it is followed, it fails and recovers, and loses nothing."""

import errno
import fcntl
import multiprocessing
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.disk import fill, small_disk
from tests.unit.events.conftest import Log, parse
from webapp.events import rotation

# Forking a process that has threads is what some of these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

InChild = Callable[[Callable[[], None]], int]
SEGMENT = re.compile(r"app-\d{8}T\d{6}\.\d{6}Z-\d+\.jsonl")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Log]:
    """A log that rotates after a few lines."""
    made = Log(tmp_path / "logs", segment_bytes=1_000)
    yield made
    made.handler.close()


def numbers(log: Log) -> list[int]:
    """List the numbers of the lines, file by file."""
    return [event["seq"] for event in log.events()]


# Rotation


def test_a_full_file_is_renamed_and_a_new_one_begun(small: Log) -> None:
    for number in range(40):
        small.logger.info("hello %d", number)
    assert len(small.segments) >= 5
    assert all(SEGMENT.fullmatch(segment.name) for segment in small.segments)
    assert all(1_000 <= segment.stat().st_size < 1_500 for segment in small.segments)
    assert len(small.rotations) == len(small.segments)
    assert numbers(small) == list(range(1, 41))


def test_a_segment_keeps_its_name_and_content_for_life(small: Log) -> None:
    known: dict[str, bytes] = {}
    for _ in range(60):
        small.logger.info("hello")
        found = {segment.name: segment.read_bytes() for segment in small.segments}
        assert found.items() >= known.items()
        known = found
    assert all(content.endswith(b"}\n") for content in known.values())


def test_one_long_line_fits_into_a_small_segment(small: Log) -> None:
    small.logger.info("x" * 50_000)
    small.logger.info("hello")
    assert numbers(small) == [1, 2]
    assert len(small.segments) == 1


def test_another_process_follows_a_rotation(small: Log, in_child: InChild) -> None:
    small.logger.info("before")

    def rotate() -> None:
        for _ in range(10):
            small.logger.info("x" * 200)

    assert in_child(rotate) == 0
    segments = {segment: segment.read_bytes() for segment in small.segments}
    assert segments
    small.logger.info("after")
    assert {segment: segment.read_bytes() for segment in segments} == segments
    assert small.events()[-1]["message"] == "after"


def test_a_file_that_another_process_is_writing_is_renamed_later(small: Log) -> None:
    small.logger.info("hello")
    with small.active.open() as busy:
        fcntl.flock(busy, fcntl.LOCK_SH)  # as a writer that was stopped in the middle
        for _ in range(10):
            small.logger.info("hello")
        assert small.segments == []
    small.logger.info("hello")
    assert len(small.segments) == 1
    assert numbers(small) == list(range(1, 13))


def test_a_line_waits_for_a_rename_to_end(log: Log) -> None:
    log.logger.info("before")
    with log.active.open() as renaming:
        fcntl.flock(renaming, fcntl.LOCK_EX)
        writer = threading.Thread(target=log.logger.info, args=("during",))
        writer.start()
        writer.join(0.1)
        assert writer.is_alive()
        assert len(log.lines()) == 1
        renamed = log.active.rename(log.folder / "app-19700101T000000.000000Z-1.jsonl")
    writer.join(5)
    assert b"during" in log.active.read_bytes()
    assert b"during" not in renamed.read_bytes()


def test_a_rename_that_fails_loses_no_line_and_is_told(
    small: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    rename = os.rename
    monkeypatch.setattr(rotation.os, "rename", refuse)
    monkeypatch.setattr(rotation, "_LATE_BYTES", 1_000)
    assert small.handler.check() is None
    for _ in range(20):
        small.logger.info("hello")
    assert numbers(small) == list(range(1, 21))
    assert small.dropped == []
    assert small.rotations == []
    assert small.handler.check() == "the file cannot be renamed"
    monkeypatch.setattr(rotation.os, "rename", rename)
    small.logger.info("hello")
    assert small.handler.check() is None
    assert len(small.segments) == 1


# What others do to the file


def test_a_file_that_was_moved_away_is_not_followed(log: Log) -> None:
    log.logger.info("before")
    moved = log.active.rename(log.folder / "app.log.1")
    log.logger.info("after")
    assert b"after" not in moved.read_bytes()
    assert [event["message"] for event in log.events()] == ["after"]


def test_a_file_that_was_copied_and_truncated_is_written_from_its_start(log: Log) -> None:
    for _ in range(10):
        log.logger.info("before")
    os.truncate(log.active, 0)
    log.logger.info("after")
    assert log.active.read_bytes().startswith(b'{"timestamp"')
    assert numbers(log) == [11]


@pytest.mark.parametrize("what", ["file", "folder", "folder and its parent"])
def test_what_was_removed_is_made_again(tmp_path: Path, what: str) -> None:
    log = Log(tmp_path / "parent" / "logs")
    log.logger.info("before")
    if what == "file":
        log.active.unlink()
    else:
        shutil.rmtree(log.folder if what == "folder" else log.folder.parent)
    log.logger.info("after")
    assert [event["message"] for event in log.events()] == ["after"]
    assert log.dropped == []
    log.handler.close()


def test_the_log_is_not_for_everyone_to_read(log: Log) -> None:
    log.logger.info("hello")
    assert log.active.stat().st_mode & 0o007 == 0
    assert log.folder.stat().st_mode & 0o007 == 0


# Failure and recovery


def break_folder(log: Log) -> None:
    """Put a file in the place of the folder."""
    shutil.rmtree(log.folder)
    log.folder.write_text("not a folder")


def break_parent(log: Log) -> None:
    """Put a file in the place of the folder's parent."""
    shutil.rmtree(log.folder.parent)
    log.folder.parent.write_text("not a folder")


def break_with_folder(log: Log) -> None:
    """Put a folder in the place of the file."""
    log.active.unlink()
    log.active.mkdir()


def break_with_fifo(log: Log) -> None:
    """Put a named pipe without a reader in the place of the file."""
    log.active.unlink()
    os.mkfifo(log.active)


def break_with_link(log: Log) -> None:
    """Put a link to a device that is always full in the place of the file."""
    log.active.unlink()
    log.active.symlink_to("/dev/full")


def mend(log: Log) -> None:
    """Remove whatever stands in the way."""
    for path in (log.active, log.folder, log.folder.parent):
        if path.is_dir() and path != log.folder.parent:
            shutil.rmtree(path)
        elif path.exists() and not path.is_dir():
            path.unlink()


@pytest.mark.parametrize(
    "break_it", [break_folder, break_parent, break_with_folder, break_with_fifo, break_with_link]
)
def test_what_stands_in_the_way_drops_lines_to_stderr_until_it_is_gone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], break_it: Callable[[Log], None]
) -> None:
    log = Log(tmp_path / "parent" / "logs")
    log.logger.info("one")
    assert log.handler.check() is None
    break_it(log)
    for message in ("two", "three"):
        log.logger.warning(message)
    assert log.dropped == ["WARNING", "WARNING"]
    assert log.written == ["INFO"]
    said = [parse(line.encode()) for line in capfd.readouterr().err.splitlines()]
    assert [(event["message"], event["seq"]) for event in said] == [("two", 2), ("three", 3)]
    problem = log.handler.check()
    assert problem
    assert str(tmp_path) not in problem
    mend(log)
    log.logger.info("four")
    assert log.handler.check() is None
    assert [(event["message"], event["seq"]) for event in log.events()] == [("four", 4)]
    log.handler.close()


def test_a_full_disk_drops_what_does_not_fit_and_recovers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        log = Log(disk / "logs")
        log.logger.info("before")
        filler = fill(disk)
        for number in range(100):
            log.logger.info("during %d %s", number, "x" * 300)
        assert len(log.dropped) > 50
        assert log.handler.check() == os.strerror(errno.ENOSPC)
        filler.unlink()
        log.logger.info("after")
        assert log.handler.check() is None
        whole = [line for line in log.lines() if line.endswith(b"}")]
        assert len(log.lines()) - len(whole) <= 1, "where the disk was full, a line was torn"
        messages = [parse(line)["message"] for line in whole]
        assert (messages[0], messages[-1]) == ("before", "after")
        assert len(whole) == len(log.written) == 102 - len(log.dropped)
        said = capfd.readouterr().err.splitlines()
        assert len(said) == len(log.dropped)
        log.handler.close()


def test_a_disk_that_turns_read_only_drops_lines_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        log = Log(disk / "logs")
        log.logger.info("one")
        log.handler.close()
        subprocess.run(("mount", "-o", "remount,ro", disk), check=True)
        log.logger.info("two")
        assert log.dropped == ["INFO"]
        assert log.handler.check() == os.strerror(errno.EROFS)
        subprocess.run(("mount", "-o", "remount,rw", disk), check=True)
        log.logger.info("three")
        assert numbers(log) == [1, 3]
        log.handler.close()


def test_a_folder_that_forbids_writing_drops_lines(in_child: InChild) -> None:
    folder = Path(tempfile.mkdtemp())
    (folder / "logs").mkdir(mode=0o555)
    folder.chmod(0o755)
    log = Log(folder / "logs")

    def write_as_nobody() -> None:
        if os.geteuid() == 0:  # which modes do not bind
            os.setuid(65534)
        log.logger.info("hello")
        assert log.dropped == ["INFO"]
        assert log.handler.check() == os.strerror(errno.EACCES)

    assert in_child(write_as_nobody) == 0
    shutil.rmtree(folder)


def test_a_folder_that_never_agrees_with_its_file_is_given_up(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat
    monkeypatch.setattr(rotation.os, "stat", lambda path: real("/"))
    log.logger.info("hello")
    assert log.dropped == ["INFO"]
    monkeypatch.undo()
    log.logger.info("hello")
    assert log.written == ["INFO"]


def test_a_counter_that_fails_does_not_fail_the_caller(log: Log) -> None:
    def fail(level: str) -> None:
        raise RuntimeError("no counter")

    log.handler._on_written = fail
    log.logger.info("hello")
    assert numbers(log) == [1]


# Torn lines


@pytest.mark.parametrize("torn", [b"{", b'{"timestamp":"2026-01-01T00:00:00.000000Z","le', b"\xff"])
def test_a_line_that_a_killed_writer_left_torn_stays_alone(log: Log, torn: bytes) -> None:
    log.logger.info("before")
    with log.active.open("ab") as file:
        file.write(torn)
    log.logger.info("after")
    log.logger.info("last")
    lines = log.active.read_bytes().split(b"\n")
    assert lines[1] == torn
    assert [parse(line)["message"] for line in (lines[0], *lines[2:4])] == [
        *("before", "after", "last"),
    ]


def test_a_line_put_on_a_torn_one_unseen_is_written_again(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.logger.info("before")
    real, raced = os.write, []

    def write(fd: int, data: bytes) -> int:
        if not raced:
            raced.append(fd)
            with log.active.open("ab", 0) as other:
                real(other.fileno(), b'{"timestamp":"torn')
        return real(fd, data)

    monkeypatch.setattr(rotation.os, "write", write)
    log.logger.info("after")
    log.logger.info("last")
    lines = [line for line in log.lines() if not line.startswith(b'{"timestamp":"torn')]
    assert [parse(line)["seq"] for line in lines] == [1, 2, 3]
    assert len(log.lines()) == 4


def test_lines_of_others_in_between_are_no_reason_to_write_again(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.logger.info("before")
    real = os.write

    def write(fd: int, data: bytes) -> int:
        with log.active.open("ab", 0) as other:
            real(other.fileno(), b'{"other":"line"}\n')
        return real(fd, data)

    monkeypatch.setattr(rotation.os, "write", write)
    for _ in range(3):
        log.logger.info("hello")
    assert len(log.lines()) == 4 + 3


def test_a_write_that_stops_halfway_counts_as_lost_and_hurts_no_other(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(rotation.os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    log.logger.info("half")
    monkeypatch.undo()
    log.logger.info("whole")
    assert log.dropped == ["INFO"]
    torn, whole = log.lines()
    assert not torn.endswith(b"}")
    assert parse(whole)["seq"] == 2


# Threads, finalisers, forks


def test_a_record_made_in_the_middle_of_a_write_is_written_after_it(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = os.write, []

    def write(fd: int, data: bytes) -> int:
        if not made:
            made.append("finaliser")
            log.logger.warning("from a finaliser")
        return real(fd, data)

    monkeypatch.setattr(rotation.os, "write", write)
    thread = threading.Thread(target=log.logger.info, args=("outer",), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "it waits for itself"
    assert [event["message"] for event in log.events()] == ["outer", "from a finaliser"]
    assert numbers(log) == [1, 2]
    assert log.written == ["INFO", "WARNING"]


def test_a_forked_child_counts_from_one_and_its_parent_goes_on(log: Log, in_child: InChild) -> None:
    log.logger.info("parent")
    assert in_child(lambda: [log.logger.info("child") for _ in range(2)] and None) == 0
    log.logger.info("parent")
    lines = [(event["message"], event["seq"]) for event in log.events()]
    assert lines == [("parent", 1), ("child", 1), ("child", 2), ("parent", 2)]
    pids = [event["pid"] for event in log.events()]
    assert pids[0] == pids[3] == os.getpid() != pids[1] == pids[2]


def test_a_child_forked_while_a_thread_writes_does_not_wait_for_it(
    log: Log, in_child: InChild
) -> None:
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            log.logger.info("thread")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(20):
            assert in_child(lambda: log.logger.info("child")) == 0
    finally:
        done.set()
        thread.join()
    assert sum(event["message"] == "child" for event in log.events()) == 20


def test_a_child_does_not_give_up_its_parents_lock(log: Log, in_child: InChild) -> None:
    log.logger.info("hello")
    fcntl.flock(log.handler._fd, fcntl.LOCK_SH)  # as in the middle of a write
    assert in_child(lambda: log.logger.info("child")) == 0
    with log.active.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_some(folder: Path, count: int) -> None:
    """Write a number of records from a process of its own."""
    log = Log(folder, segment_bytes=2_000)
    for number in range(count):
        log.logger.info("hello", extra={"number": number})


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_share_the_log(small: Log, method: str) -> None:
    small.logger.info("parent")
    context: Any = multiprocessing.get_context(method)
    children = [context.Process(target=write_some, args=(small.folder, 50)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    lives: dict[int, list[int]] = {}
    for event in small.events():
        lives.setdefault(event["pid"], []).append(event["seq"])
    assert sorted(map(len, lives.values())) == [1, 50, 50, 50]
    assert all(sorted(seqs) == list(range(1, len(seqs) + 1)) for seqs in lives.values())


def test_a_process_that_configures_its_log_again_goes_on_counting(log: Log) -> None:
    log.logger.info("hello")
    again = Log(log.folder)
    again.logger.info("hello")
    again.handler.close()
    assert numbers(log) == [1, 2]


def test_a_closed_handler_opens_again_for_a_late_record(log: Log) -> None:
    log.logger.info("hello")
    log.handler.close()
    log.logger.info("late")
    assert numbers(log) == [1, 2]


def test_the_handler_has_no_lock_that_formatting_waits_for(log: Log) -> None:
    inside, both = threading.Barrier(2, timeout=5), []

    class Slow:
        def __str__(self) -> str:
            inside.wait()  # reached only if the other thread formats at the same time
            both.append(None)
            return "slow"

    threads = [threading.Thread(target=log.logger.info, args=("%s", Slow())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(both) == 2
