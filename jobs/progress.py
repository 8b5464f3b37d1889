"""One calm progress bar on a terminal; a log line now and then where there is none."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LOG_EVERY_S = 15.0


@contextmanager
def progress(total: int, done: int, pairs: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show how a run goes on.

    Args:
        total: units of the plan.
        done: units that were done before.
        pairs: pairs that are left.

    Yields:
        What to call with each commit's marker, or with the description of a failed unit.
    """
    console = Console(stderr=True)
    started = time.perf_counter()
    seen = {"pairs": 0, "faults": 0, "failed": 0, "units": done}
    logged = started

    def count(said: dict[str, Any]) -> str:
        seen["units"] += 1
        seen["pairs"] += said.get("pairs", 0)
        seen["faults"] += said.get("faults", 0)
        seen["failed"] += "reason" in said
        rate = seen["pairs"] / max(time.perf_counter() - started, 1e-9)
        errors = f", {seen['faults']} errors" if seen["faults"] else ""
        errors += f", {seen['failed']} units failed" if seen["failed"] else ""
        return f"{rate:.0f} pairs/s{errors}"

    if not console.is_terminal:

        def log(said: dict[str, Any]) -> None:
            nonlocal logged
            text = count(said)
            now = time.perf_counter()
            if now - logged > _LOG_EVERY_S or seen["units"] == total:
                logged = now
                left = (pairs - seen["pairs"]) * (now - started) / max(seen["pairs"], 1)
                console.print(f"units {seen['units']}/{total}, {text}, {max(left, 0):.0f} s left", highlight=False)

        yield log
        return

    bar = Progress(
        TextColumn("re-ranking"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("units, {task.fields[text]}"),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=total, completed=done, text="starting")

        def show(said: dict[str, Any]) -> None:
            bar.update(task, advance=1, text=count(said))

        yield show
