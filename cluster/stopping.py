"""SIGTERM and SIGHUP end a job as Ctrl-C does: what was begun is tidied up, and nothing is left behind."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_IMPATIENT = 3  # times Ctrl-C, after which tidying up is given up too
_AGAIN_S = 0.1


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Stop:
    """What has come so far; signals are the process's, and so is this."""

    def __init__(self) -> None:
        self.taken = False
        self.number: int | None = None
        self.late = False
        self.finishing = 0
        self.presses = 0

    def come(self, number: int, _: FrameType | None) -> None:
        """The handler: `timeout`, shells and schedulers send more than one signal, and the first is heard."""
        self.number = self.number or number
        self.presses += number == signal.SIGINT
        if self.presses < _IMPATIENT and (self.finishing or _tidying_up()):
            self.late = True
            return
        raise Stopped(self.number)

    def lost(self, unraisable: Any) -> None:
        """Python drops what is raised in a destructor or a callback: the signal is sent again."""
        if isinstance(unraisable.exc_value, Stopped):
            again = threading.main_thread().ident or 0, unraisable.exc_value.number
            threading.Timer(_AGAIN_S, signal.pthread_kill, again).start()
        else:
            sys.__unraisablehook__(unraisable)


_stop = _Stop()


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise `Stopped` in the main thread, for the length of a with-block.

    What the process ignores (SIGHUP under nohup) stays ignored, and handlers that others have set stay theirs; in
    other threads than the main one nothing is changed.
    """
    if _stop.taken or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    mine = [number for number in _NUMBERS if before[number] in (signal.SIG_DFL, signal.default_int_handler)]
    hook = sys.unraisablehook
    _stop.__init__()  # type: ignore[misc]
    _stop.taken = True
    try:
        sys.unraisablehook = _stop.lost
        for number in mine:
            signal.signal(number, _stop.come)
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])
        sys.unraisablehook = hook
        _stop.taken = False


def stopped() -> int | None:
    """The signal that came first, also where what it raised ended as another error."""
    return _stop.number if _stop.taken else None


@contextmanager
def finishing() -> Iterator[None]:
    """Signals that come within are heard at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _stop.finishing += 1
    try:
        yield
    finally:
        _stop.finishing -= 1
    if _stop.late and not _stop.finishing and not _tidying_up():
        raise Stopped(_stop.number or signal.SIGINT)


def _tidying_up() -> bool:
    """Whether an earlier signal's exception is on its way through the program."""
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
