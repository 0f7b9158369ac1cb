"""Notes about models that outlive the process that made them."""

import faulthandler
import os
import signal
import threading
import time
import timeit

import pytest

from webapp.ml.attempts import Attempts, Death

A, B = "aa" * 32, "bb" * 32
LIMIT = 30


def test_a_note_is_there_while_the_model_is_asked_and_gone_afterwards() -> None:
    attempts = Attempts(threads=2)
    with attempts.note(A):
        assert [each.digest for each in attempts.read()] == [A]
    assert attempts.read() == []


def test_a_failure_of_the_model_leaves_no_note() -> None:
    attempts = Attempts(threads=1)
    with pytest.raises(RuntimeError), attempts.note(A):
        raise RuntimeError
    assert attempts.find_death(1, LIMIT) is None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_the_parent_reads_what_a_killed_worker_had_in_hand(how: signal.Signals) -> None:
    attempts = Attempts(threads=4)
    worker = os.fork()
    if worker == 0:
        faulthandler.disable()
        with attempts.note(B):
            time.sleep(0.05)
            os.kill(os.getpid(), how)
            time.sleep(10)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -how
    assert attempts.find_death(worker, LIMIT) == Death("crashed", worker, frozenset({B}))


def test_a_worker_that_stalls_ends_itself_and_only_who_took_too_long_is_blamed() -> None:
    attempts = Attempts(threads=4)
    worker = os.fork()
    if worker == 0:
        faulthandler.disable()
        attempts.watch(0.4)
        with attempts.note(A):
            time.sleep(0.3)
            with attempts.note(B):
                time.sleep(10)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -signal.SIGABRT
    late = [each for each in attempts.read() if each.digest == A]
    assert attempts.find_death(worker, late[0].seconds) == Death("stalled", worker, frozenset({A}))


def test_what_a_worker_has_in_hand_when_it_ends_in_order_is_not_to_blame() -> None:
    attempts = Attempts(threads=4)
    worker = os.fork()
    if worker == 0:
        with attempts.note(A):
            attempts.end()
            os._exit(0)
    os.waitpid(worker, 0)
    assert attempts.find_death(worker, LIMIT) is None
    assert attempts.find_death(worker, 0) == Death("stalled", worker, frozenset({A}))


def test_more_threads_than_rows_go_without_a_note() -> None:
    attempts = Attempts(threads=2)
    arrived, leave = threading.Barrier(4), threading.Event()

    def ask(digest: str) -> None:
        with attempts.note(digest):
            arrived.wait(10)
            leave.wait(10)

    threads = [threading.Thread(target=ask, args=(digest,)) for digest in (A, B, A)]
    for thread in threads:
        thread.start()
    arrived.wait(10)
    assert len(attempts.read()) == 2
    leave.set()
    for thread in threads:
        thread.join()
    assert attempts.read() == []


def test_a_note_costs_a_prediction_next_to_nothing() -> None:
    attempts = Attempts(threads=1)

    def take() -> None:
        with attempts.note(A):
            pass

    count = 1000
    best = min(timeit.repeat(take, number=count, repeat=20)) / count
    assert best < 10e-6  # about 1.5 µs on an idle machine
