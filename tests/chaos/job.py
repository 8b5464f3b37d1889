"""The command line with the failing family and steps known to it: `python tests/chaos/job.py rerank ...`."""

import os
import sys
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chaos.failing_scorers import FailingConfig
from pydantic import BeforeValidator, Field

from ray_rerank.operators.scorers import registry

registry.FAMILIES["failing"] = FailingConfig
registry.Family = registry.Family | FailingConfig
registry.ScorerConfig = Annotated[registry.Family, Field(discriminator="kind"), BeforeValidator(registry._with_kind)]

from chaos.failing_steps import VARIABLE, FailingCommit, FailingRead, FailingStage, faults  # noqa: E402

from ray_rerank.jobs import rerank  # noqa: E402
from ray_rerank.jobs.__main__ import main  # noqa: E402

if __name__ == "__main__":
    if VARIABLE in os.environ:
        rerank.ReadUnit, rerank.LoadStage, rerank.CommitUnit = FailingRead, FailingStage, FailingCommit
    with faults(of_driver=True):
        main()
