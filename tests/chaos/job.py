"""The command line with the failing family known to it: `python tests/chaos/job.py rerank ...`."""

import sys

from operators import scorers

scorers.FAMILIES["failing"] = "failing_scorers:FailingConfig"
scorers.ScorerConfig = scorers.union_of_families()

from jobs.command import execute  # noqa: E402

if __name__ == "__main__":
    sys.exit(execute(sys.argv[1:]))
