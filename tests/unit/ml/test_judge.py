"""The fork server and the children around the loader."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from tests import estimators
from tests.estimators import dump, dumped
from tests.processes import GONE_SECONDS, children, runs, wait_until_gone
from tests.unit.ml import hostile
from webapp.errors import ModelRejectedError, ServiceUnavailableError
from webapp.ml.loading import Allowed, compile_model, judge, parent, sandbox
from webapp.ml.passport import Passport

# What code in the child could do, if there ever were some.
SPYING = """
import ctypes, os, resource, signal, socket, subprocess, time

libc = ctypes.CDLL(None, use_errno=True)

class Spy:
    def __getstate__(self):
        return {}
    def __setstate__(self, state):
        self.act()

class Crash(Spy):
    def act(self):
        ctypes.string_at(8)

class Sleep(Spy):
    def act(self):
        time.sleep(600)

class Loop(Spy):
    def act(self):
        while True:
            pass

class Eat(Spy):
    def act(self):
        self.eaten = bytearray(3 * 2**30)

class Look(Spy):
    def act(self):
        done = []
        for deed in DEEDS:
            try:
                deed()
                done.append(deed.__name__)
            except (OSError, ValueError):
                pass
        if os.environ.keys() & {"PELLUCID_JWT_SECRET_KEY", "HOME", "PATH"}:
            done.append("environment")
        raise AssertionError(f"<{' '.join(done)}>")

def write():
    with open("MARKER", "w") as file:
        file.write("x")

def remove():
    os.unlink("UPLOAD")

def connect():
    socket.create_connection(("127.0.0.1", 1), timeout=1)

def run():
    subprocess.run(["/bin/true"], check=True)

def fork():
    if os.fork() == 0:
        os._exit(0)

def kill():
    os.kill(os.getppid(), 0)

def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def signal_thread():
    call(libc.tgkill, os.getppid(), os.getppid(), 0)

def signal_queued():
    call(libc.sigqueue, os.getppid(), 0, None)

def share_memory():
    call(libc.shmget, 0, 4096, 0o600)

def raise_limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def limit_another():
    resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0))

DEEDS = (
    write, remove, connect, run, fork, kill, signal_thread, signal_queued, share_memory,
    raise_limit, limit_another,
)
"""


def fork_servers() -> set[int]:
    """The fork servers that this process has started and that live."""
    return {pid for pid in children(os.getpid()) if runs(pid, "webapp.ml.loading.forkserver")}


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    return tmp_path / "upload"


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch) -> Iterator[parent.Judges]:
    """A fork server of the test's own."""
    others = fork_servers()
    made = parent.Judges()
    monkeypatch.setattr(parent, "_shared", made)
    yield made
    made.close()
    wait_until_gone(fork_servers() - others)


@pytest.fixture
def find_fork_server(judges: parent.Judges) -> Callable[[], int]:
    """Ask for the process number of that fork server."""
    others = fork_servers()

    def find() -> int:
        deadline = time.monotonic() + GONE_SECONDS
        while not (found := fork_servers() - others):  # it has no command line in its first moment
            assert time.monotonic() < deadline
        return found.pop()

    return find


@pytest.fixture
def spying(
    judges: parent.Judges, tmp_path: Path, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that the fork server can import, as an operator's package."""
    folder = tmp_path / "spy"
    folder.mkdir()
    source = SPYING.replace("MARKER", str(tmp_path / "pwned")).replace("UPLOAD", str(upload))
    (folder / "spying.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))


def spy(name: str) -> bytes:
    """A file that has a spy do something while it is loaded."""
    return hostile.stream(hostile.name("spying", name), b")\x81}b")


def test_a_model_gets_its_passport(upload: Path) -> None:
    upload.write_bytes(dumped(estimators.wine_columns))
    passport = judge(upload, max_features=100)
    assert passport.estimator == "sklearn.pipeline.Pipeline"
    assert passport.steps == [
        "sklearn.compose.ColumnTransformer",
        "sklearn.linear_model.LogisticRegression",
    ]
    assert passport.feature_names_in_ == ["alcohol", "malic_acid", "colour"]
    assert passport.feature_kinds == ["number", "number", "category"]
    assert passport.bytes == upload.stat().st_size
    assert Passport.from_dict(passport.to_dict()) == passport


def test_a_small_model_is_judged_within_half_a_second_after_the_first(upload: Path) -> None:
    upload.write_bytes(dumped(estimators.iris_pipeline))
    judge(upload, max_features=100)
    began = time.perf_counter()
    judge(upload, max_features=100)
    assert time.perf_counter() - began < 0.5


def test_a_model_of_which_there_is_too_much_to_tell_is_refused(upload: Path) -> None:
    upload.write_bytes(
        dump(Ridge().fit([[0.0], [1.0]], np.random.default_rng(0).random((2, 400_000))))
    )
    with pytest.raises(ModelRejectedError, match="answers to one row") as caught:
        judge(upload, max_features=100)
    assert caught.value.details["reason"] == "limits"


def test_a_model_may_need_more_memory_where_more_is_allowed(upload: Path) -> None:
    X = np.random.default_rng(0).integers(0, 9, (1_000_000, 20)).astype(float)
    model = KNeighborsClassifier(algorithm="brute").fit(X, np.arange(1_000_000) % 2)
    upload.write_bytes(dump(model, compress=1))
    with pytest.raises(ModelRejectedError) as caught:
        judge(upload, max_features=100, memory_bytes=2**29)
    assert caught.value.details["reason"] == "limits"
    assert judge(upload, max_features=100).n_features_in_ == 20


def test_an_array_that_claims_more_than_there_is_is_refused(upload: Path) -> None:
    data = dump(estimators.diabetes_ridge())
    shape = hostile.text("shape").replace(b"X\x05\0\0\0", b"\x8c\x05") + b"\x94K\x0a\x85"
    assert data.count(shape) == 1
    huge = shape[:-3] + b"\x8a\x05\0\0\0\0\x01\x85"  # 2**32 numbers
    upload.write_bytes(data.replace(shape, huge))
    with pytest.raises(ModelRejectedError) as caught:
        judge(upload, max_features=100)
    assert caught.value.details["reason"] == "truncated"


@pytest.mark.usefixtures("spying")
@pytest.mark.parametrize(
    ("deed", "reason"), [("Crash", "invalid_file"), ("Sleep", "limits"), ("Eat", "limits")]
)
def test_a_child_that_crashes_or_stays_is_a_refusal(
    deed: str, reason: str, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "WALL_SECONDS", 2)
    upload.write_bytes(spy(deed))
    with pytest.raises(ModelRejectedError) as caught:
        judge(upload, max_features=100, allowed=Allowed((f"spying.{deed}",)))
    assert caught.value.details["reason"] == reason


@pytest.mark.usefixtures("spying")
def test_the_child_sees_no_secret_and_can_do_nothing_outside(
    upload: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PELLUCID_JWT_SECRET_KEY", "s" * 32)
    upload.write_bytes(spy("Look"))
    with caplog.at_level(logging.INFO), pytest.raises(ModelRejectedError, match="damaged"):
        judge(upload, max_features=100, allowed=Allowed(("spying.Look",)))
    (refused,) = (one for one in caplog.records if one.getMessage() == "Refused an upload")
    trace: str = vars(refused)["exception"]
    told = trace.rpartition("AssertionError: <")[2].partition(">")[0]
    assert told != trace
    if sandbox.level() == "seccomp":
        assert told == ""
        assert not (tmp_path / "pwned").exists()
    else:
        assert "write" not in told
        assert "environment" not in told


def test_a_killed_fork_server_is_started_again(
    upload: Path, find_fork_server: Callable[[], int]
) -> None:
    upload.write_bytes(dumped(estimators.iris_pipeline))
    judge(upload, max_features=100)
    first = find_fork_server()
    os.kill(first, signal.SIGKILL)
    assert judge(upload, max_features=100).n_features_in_ == 4
    assert find_fork_server() != first


@pytest.mark.usefixtures("spying")
def test_a_fork_server_killed_meanwhile_is_asked_again(
    upload: Path,
    judges: parent.Judges,
    find_fork_server: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parent, "WALL_SECONDS", 1)
    upload.write_bytes(spy("Sleep"))
    judges.start()
    time.sleep(0.5)
    timer = threading.Timer(2.5, os.kill, (find_fork_server(), signal.SIGKILL))
    monkeypatch.setattr(parent, "WALL_SECONDS", 4)
    timer.start()
    with pytest.raises(ModelRejectedError) as caught:
        judge(upload, max_features=100, allowed=Allowed(("spying.Sleep",)))
    assert caught.value.details["reason"] == "limits"
    timer.join()


def test_the_fork_server_ends_with_those_who_ask_it(find_fork_server: Callable[[], int]) -> None:
    judges = parent.Judges()
    judges.start()
    process = find_fork_server()
    judges.close()
    wait_until_gone({process})


def test_processes_forked_later_share_the_fork_server(upload: Path, judges: parent.Judges) -> None:
    upload.write_bytes(dumped(estimators.iris_pipeline))
    judges.start()
    assert not judges.start()
    child = os.fork()
    if child == 0:
        started = judges.start()
        judged = judge(upload, max_features=100).n_features_in_ == 4
        os._exit(0 if judged and not started else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_child_that_cannot_start_is_our_fault_and_logged(
    upload: Path,
    tmp_path: Path,
    judges: parent.Judges,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upload.write_bytes(b"")
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho No module named webapp >&2\nexit 1\n")
    broken.chmod(0o700)
    for executable in (broken, tmp_path / "missing"):
        monkeypatch.setattr("sys.executable", str(executable))
        with caplog.at_level(logging.ERROR), pytest.raises(ServiceUnavailableError):
            judge(upload, max_features=100)
    assert "No module named webapp" in caplog.text
    assert "cannot start" in caplog.text


@pytest.mark.usefixtures("spying")
def test_a_third_upload_at_once_waits_and_then_is_told_to_come_back(
    upload: Path, judges: parent.Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload.write_bytes(dumped(estimators.iris_pipeline))
    judge(upload, max_features=100)  # so that nobody waits for the start
    monkeypatch.setattr(parent, "WALL_SECONDS", 3)
    monkeypatch.setattr(parent, "QUEUE_SECONDS", 0.5)
    sleepy = upload.with_name("sleepy")
    sleepy.write_bytes(spy("Sleep"))
    refusals: list[str] = []

    def hold() -> None:
        with pytest.raises(ModelRejectedError) as caught:
            judge(sleepy, max_features=100, allowed=Allowed(("spying.Sleep",)))
        refusals.append(caught.value.details["reason"])

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    with pytest.raises(ServiceUnavailableError) as caught:
        judge(upload, max_features=100)
    assert caught.value.retry_after_seconds is not None
    for thread in threads:
        thread.join()
    assert refusals == ["limits", "limits"]
    assert judge(upload, max_features=100).n_features_in_ == 4


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("COMPILE_CPU_SECONDS", 0, "takes more time or memory than allowed"),
        ("MAX_GRAPH_BYTES", 100, "compiling it failed"),
    ],
)
def test_a_compiler_that_fails_leaves_the_model_on_scikit_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, reason: str
) -> None:
    path = tmp_path / "model.joblib"
    path.write_bytes(dumped(estimators.cancer_forest))
    passport = judge(path, max_features=100)
    monkeypatch.setattr(parent, limit, value)
    compilation, graph = compile_model(path, passport)
    assert (compilation.engine, graph) == ("sklearn", b"")
    assert reason in (compilation.reason or "")


def test_a_model_that_vanished_is_not_compiled(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    path.write_bytes(dumped(estimators.iris_pipeline))
    passport = judge(path, max_features=100)
    path.unlink()
    compilation, _ = compile_model(path, passport)
    assert (compilation.engine, compilation.reason) == ("sklearn", "compiling it failed")
