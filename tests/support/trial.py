"""One try of the command line with bad input, and what must hold of it: an end, a code, a sentence, a bound."""

import io
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from support.command import execute

SECONDS = 60
BYTES = 2 << 30
LONGEST = 8_000  # characters of what a person is told

short_and_long = pytest.mark.parametrize("count", [50, pytest.param(300, marks=pytest.mark.slow)])
"""How many inputs: with four files that use it, 200 in `make test` and 1,200 in `make slow`."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one command line."""

    code: int
    out: str
    err: str
    seconds: float
    bytes: int

    def check(self) -> None:
        """An exit code that says refused, done or done with errors, one message, no traceback, bounded."""
        told = f"exit code {self.code} after {self.seconds:.1f} s and {self.bytes >> 20} MiB\n{self.out}\n{self.err}"
        assert self.code in {0, 2, 3}, told
        assert "Traceback" not in self.out + self.err, told
        assert sum(line.startswith("ray-rerank ") for line in self.err.splitlines()) <= 1 or self.code != 2, told
        assert self.err.strip() or self.code != 2, told
        assert len(self.err) < LONGEST, f"{len(self.err)} characters: {self.err[:500]}"
        assert self.seconds < SECONDS, told
        assert self.bytes < BYTES, told


def try_command(arguments: Sequence[str]) -> Trial:
    """Run the command line in this process; the test should use `support.marks.here` where the job would start Ray."""
    out, err = io.StringIO(), io.StringIO()
    before = _reset_peak()
    started = time.monotonic()
    with redirect_stdout(out), redirect_stderr(err), _limit():
        code = execute(list(arguments))
    return Trial(int(code), out.getvalue(), err.getvalue(), time.monotonic() - started, _peak() - before)


def fuzz(strategy: SearchStrategy[Any], check: Callable[[Any], None], count: int) -> None:
    """Check so many examples, the same ones each time; a failure is shrunk and printed."""
    phases = (Phase.explicit, Phase.generate, Phase.shrink)
    settled = settings(
        max_examples=count, derandomize=True, database=None, phases=phases,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    settled(given(strategy)(check))()


@contextmanager
def _limit() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise AssertionError(f"no end within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _reset_peak() -> int:
    """Start to measure anew (Linux); how much memory is in use now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM in /proc/self/status")
