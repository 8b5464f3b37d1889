"""The steps of a unit, each of which can be made to die, stand still or raise, by what the environment says of it."""

import json
import os
import pkgutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from ray_rerank.cluster.steps import Step
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.scoring.steps import CommitUnit, LoadStage, ReadUnit

VARIABLE = "RERANK_TEST_FAULT"
SAID = "it was made to fail"

STEPS = {
    "read": ("ray_rerank.jobs.scoring.steps.read_rows", ""),
    "start": ("chaos.failing_scorers.FailingConfig.load", ""),
    "tokenise": ("ray_rerank.operators.inference.row_scoring.tokenise", ""),
    "forward": ("ray_rerank.operators.inference.row_scoring.run_in_batches", ""),
    "commit": ("ray_rerank.cluster.run_folder.write_whole", "part-"),
    "marker": ("ray_rerank.cluster.run_folder.write_whole", "_run/done/"),
    "report": ("ray_rerank.jobs.scoring.run.write_whole", "report.json"),
}
"""Where each step is taken, and what its first argument then has in it."""


def fault(step: str, how: str, unit: int, once: Path | None = None) -> str:
    """What the environment variable says: which step fails, how, for the unit of which place in the plan, how often."""
    return json.dumps({"step": step, "how": how, "unit": unit, "once": once and str(once)})


@contextmanager
def faults(unit: Unit | None = None, of_driver: bool = False) -> Iterator[None]:
    """The fault of the environment, where it is meant for this unit, or for none, for the length of a with-block."""
    said = json.loads(os.environ.get(VARIABLE, "{}"))
    elsewhere = unit is not None and int(unit.name.partition("-")[0]) != said["unit"]
    if not said or elsewhere or (of_driver and said["step"] != "report"):
        yield
        return
    name, part = STEPS[said["step"]]
    module, _, attribute = name.rpartition(".")
    real = getattr(pkgutil.resolve_name(module), attribute)

    def fail(*args: Any, **kwargs: Any) -> Any:
        done = said["once"] and Path(said["once"]).exists()
        if done or part not in str(args[0] if args else ""):
            return real(*args, **kwargs)
        if said["once"]:
            Path(said["once"]).touch()
        if said["how"] == "dies":
            os._exit(1)
        if said["how"] == "stands still":
            time.sleep(3600)
        raise ArithmeticError(SAID)

    with mock.patch(name, fail):
        yield


class FailingRead(ReadUnit):
    """Reads, or not."""

    def __call__(self, unit: Unit) -> bytes:
        with faults(unit):
            return super().__call__(unit)


class FailingStage(LoadStage):
    """Loads and scores, or not."""

    def __call__(self) -> Step:
        if json.loads(os.environ[VARIABLE])["step"] == "start":
            with faults():
                return super().__call__()
        step: Step = super().__call__()

        def score(unit: Unit, payload: bytes) -> bytes:
            with faults(unit):
                return step(unit, payload)

        return score


class FailingCommit(CommitUnit):
    """Commits, or not."""

    def __call__(self, unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
        with faults(unit):
            return super().__call__(unit, payload, failure)
