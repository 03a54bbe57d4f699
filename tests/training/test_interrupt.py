"""Signals stop a run between two iterations."""

from __future__ import annotations

import os
import signal

import pytest

from segnext.training.interrupt import Interrupted, StopSignals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_first_signal_is_remembered(number: int) -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), number)
        assert signals.received == number


def test_a_hang_up_that_nohup_ignores_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_work_that_a_signal_has_made_fail_is_interrupted() -> None:
    def work() -> None:
        with StopSignals():
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("a compiler was killed")

    with pytest.raises(Interrupted):
        work()


def test_a_second_interrupt_ends_at_once() -> None:
    with StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_notice_that_comes_twice_is_one_notice() -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGUSR1


def test_the_handlers_of_before_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupted_run_ends_with_128_plus_the_signal() -> None:
    stop = Interrupted(signal.SIGTERM, "after iteration 12")
    assert stop.exit_code == 143
    assert "SIGTERM" in str(stop)
    assert "iteration 12" in str(stop)
