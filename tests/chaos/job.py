"""The command line with the failing family and steps known to it: `python tests/chaos/job.py rerank ...`."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ray_rerank.operators.scorers import registry as scorers

scorers.FAMILIES["failing"] = "chaos.failing_scorers:FailingConfig"
scorers.ScorerConfig = scorers.union_of_families()

from chaos.failing_steps import VARIABLE, FailingCommit, FailingRead, FailingStage, faults  # noqa: E402

from ray_rerank.jobs import rerank  # noqa: E402
from ray_rerank.jobs.__main__ import main  # noqa: E402

if __name__ == "__main__":
    if VARIABLE in os.environ:
        rerank.ReadUnit, rerank.LoadStage, rerank.CommitUnit = FailingRead, FailingStage, FailingCommit
    with faults(of_driver=True):
        main()
