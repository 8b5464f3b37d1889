"""What a user runs: one module or package per job, each with a `Config` and a `run()`, and what they share.

`execute` and `ExitCode` are the public API of this package; anything else may change.
"""

from collections.abc import Sequence

from ray_rerank.jobs.exit_codes import ExitCode

__all__ = ["ExitCode", "execute"]


def execute(arguments: Sequence[str]) -> int:
    """Run one job from its command line, such as `["rerank", "job.yaml", "--dry-run"]`.

    A process runs one job that needs Ray at a time; a second one in another thread is refused.

    Returns:
        The exit code, an `ExitCode`. A fault of the user's is printed and never raised.
    """
    from ray_rerank.jobs.cli import command  # signals are to be handled before these imports, which take a second

    return command.execute(arguments)
