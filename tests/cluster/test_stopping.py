"""Signals that end a job: the first is heard, tidying up is not disturbed, what is ignored stays ignored."""

import os
import signal
import sys
import time

import pytest

from ray_rerank.cluster.stopping import Stopped, finishing, stoppable, stopped

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
each = pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)


@each
def test_a_signal_is_an_interrupt_that_says_which(number: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in NUMBERS]
    with stoppable():
        with pytest.raises(Stopped) as error:
            signal.raise_signal(number)
        assert error.value.number == stopped() == number
    assert [signal.getsignal(one) for one in NUMBERS] == before and stopped() is None


@each
def test_more_signals_do_not_disturb_the_tidying_up(number: signal.Signals) -> None:
    done = False
    with stoppable(), pytest.raises(Stopped) as error:
        try:
            signal.raise_signal(number)
        finally:
            try:
                raise OSError("met while tidying up")
            except OSError:
                for other in NUMBERS:
                    signal.raise_signal(other)
            done = True
    assert done and error.value.number == number


def test_whoever_presses_ctrl_c_three_times_does_not_wait() -> None:
    pressed = 0
    with stoppable(), pytest.raises(Stopped):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            for pressed in (2, 3, 4):  # noqa: B007
                signal.raise_signal(signal.SIGINT)
    assert pressed == 3


@each
def test_what_has_to_be_finished_is_and_the_signal_heard_then(number: signal.Signals) -> None:
    done = False
    with stoppable(), pytest.raises(Stopped) as error, finishing():
        signal.raise_signal(number)
        done = True
    assert done and error.value.number == number


def test_what_is_ignored_or_handled_by_others_stays_so() -> None:
    heard: list[int] = []
    before = (
        signal.signal(signal.SIGHUP, signal.SIG_IGN),
        signal.signal(signal.SIGTERM, lambda *got: heard.append(got[0])),
    )
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_a_signal_that_python_drops_in_a_destructor_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    class Dropped:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)

    deadline = time.monotonic() + 30
    with stoppable(), pytest.raises(Stopped):
        Dropped()
        while time.monotonic() < deadline:
            time.sleep(0.01)
    assert sys.unraisablehook is not None and "ignored" not in capsys.readouterr().err
