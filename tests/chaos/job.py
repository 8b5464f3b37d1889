"""The command line with the failing family known to it: `python tests/chaos/job.py rerank ...`."""

from operators import scorers

scorers.FAMILIES["failing"] = "failing_scorers:FailingConfig"
scorers.ScorerConfig = scorers.union_of_families()

from jobs.__main__ import main  # noqa: E402

if __name__ == "__main__":
    main()
