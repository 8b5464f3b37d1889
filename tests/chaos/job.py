"""The command line with the failing family and steps known to it: `python tests/chaos/job.py rerank ...`."""

import os

from operators import scorers

scorers.FAMILIES["failing"] = "failing_scorers:FailingConfig"
scorers.ScorerConfig = scorers.union_of_families()

from failing_steps import VARIABLE, FailingCommit, FailingRead, FailingStage, faults  # noqa: E402

from jobs import rerank  # noqa: E402
from jobs.__main__ import main  # noqa: E402

if __name__ == "__main__":
    if VARIABLE in os.environ:
        rerank.ReadUnit, rerank.LoadStage, rerank.CommitUnit = FailingRead, FailingStage, FailingCommit
    with faults(of_driver=True):
        main()
