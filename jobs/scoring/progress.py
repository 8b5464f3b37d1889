"""One calm progress bar on a terminal; a log line now and then where there is none."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_LOG_EVERY_S = 15.0


class _Count:
    """What has come back so far. The rate counts from the first unit on: actors take a while to load."""

    def __init__(self, units: int, pairs_left: int, of: str) -> None:
        self.units, self._of = units, of
        self._pairs_left = pairs_left
        self._faults = self._failed = self._pairs = 0
        self._since: float | None = None

    def add(self, said: dict[str, Any]) -> str:
        """Take in a commit's marker, or the description of a failed unit; what there is to tell."""
        self.units += 1
        self._faults += said.get("faults", 0)
        self._failed += "reason" in said
        self._pairs_left -= said.get("pairs", 0)
        text = ""
        if self._since is None:
            self._since = time.perf_counter()
        else:
            self._pairs += said.get("pairs", 0)
            rate = self._pairs / max(time.perf_counter() - self._since, 1e-9)
            left = max(self._pairs_left, 0) / rate if rate else 0
            text = f", {rate:.0f} {self._of}/s, {left:.0f} s left"
        text += f", {self._faults} error rows" if self._faults else ""
        return text + (f", {self._failed} units failed" if self._failed else "")


@contextmanager
def progress(
    total: int, done: int, pairs: int, doing: str, of: str = "pairs"
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show how a run goes on.

    Args:
        total: units of the plan.
        done: units that were done before.
        pairs: pairs that are left.
        doing: the job's own verb: what the bar says.
        of: what is counted, where it is no pairs.

    Yields:
        What to call with each commit's marker, or with the description of a failed unit.
    """
    console = Console(stderr=True, highlight=False)
    count = _Count(done, pairs, of)
    if not console.is_terminal:
        logged = 0.0
        console.print(f"{doing}: {total - done} units, {pairs} {of}; the actors are loading")

        def log(said: dict[str, Any]) -> None:
            nonlocal logged
            text = count.add(said)
            if time.perf_counter() - logged > _LOG_EVERY_S or count.units == total:
                logged = time.perf_counter()
                console.print(f"{doing}: units {count.units}/{total}{text}")

        yield log
        return

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn("units{task.fields[text]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("", total=total, completed=done, text=", loading the model")

        def show(said: dict[str, Any]) -> None:
            bar.update(task, advance=1, text=count.add(said))

        yield show
