"""Notes about models that outlive the process that made them."""

import faulthandler
import os
import signal
import threading
import time

import pytest

from webapp.ml.attempts import Attempt, Attempts, share_of_blame

A, B = "aa" * 32, "bb" * 32


def test_a_note_is_there_while_the_model_is_asked_and_gone_afterwards() -> None:
    attempts = Attempts(workers=2, threads=2)
    attempts.use_slot(1)
    with attempts.note(A):
        assert [each.digest for each in attempts.read(1)] == [A]
        assert attempts.read(0) == []
    assert attempts.read(1) == []


def test_a_failure_of_the_model_leaves_no_note() -> None:
    attempts = Attempts(workers=1, threads=1)
    with pytest.raises(RuntimeError), attempts.note(A):
        raise RuntimeError
    assert attempts.read(0) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_the_parent_reads_what_a_killed_worker_was_doing(how: signal.Signals) -> None:
    attempts = Attempts(workers=2, threads=4)
    worker = os.fork()
    if worker == 0:
        faulthandler.disable()
        attempts.use_slot(1)
        with attempts.note(B):
            time.sleep(0.05)
            os.kill(os.getpid(), how)
            time.sleep(10)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -how
    (attempt,) = attempts.read(1)
    assert attempt.digest == B
    assert attempt.seconds >= 0.05
    attempts.forget(1)
    assert attempts.read(1) == []


def test_threads_have_rows_of_their_own_and_more_threads_than_rows_have_none() -> None:
    attempts = Attempts(workers=1, threads=2)
    arrived, leave = threading.Barrier(4), threading.Event()

    def ask(digest: str) -> None:
        with attempts.note(digest):
            arrived.wait(10)
            leave.wait(10)

    threads = [threading.Thread(target=ask, args=(digest,)) for digest in (A, B, A)]
    for thread in threads:
        thread.start()
    arrived.wait(10)
    assert len(attempts.read(0)) == 2
    leave.set()
    for thread in threads:
        thread.join()
    assert attempts.read(0) == []


def test_one_suspect_has_the_whole_strike_and_several_share_it() -> None:
    assert share_of_blame([]) == {}
    assert share_of_blame([Attempt(A, 1.0), Attempt(A, 2.0)]) == {A: 1.0}
    assert share_of_blame([Attempt(A, 1.0), Attempt(B, 40.0)]) == {A: 0.5, B: 0.5}
    assert share_of_blame([Attempt(A, 1.0), Attempt(B, 40.0)], least_seconds=30) == {B: 1.0}
