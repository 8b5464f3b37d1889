"""The command line in this process, on Ray or without it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from ray_rerank.jobs.cli import command

_inline = False


@contextmanager
def without_ray() -> Iterator[None]:
    """Commands of a with-block run with `--executor inline`, where their job has executors.

    For what a job makes of its input. How work is spread, lost and done again is tested on Ray: a start of an actor
    takes seconds.
    """
    global _inline
    import torch

    threads, before, _inline = torch.get_num_threads(), _inline, True
    try:
        yield
    finally:
        _inline = before
        torch.set_num_threads(threads)


def execute(arguments: Sequence[str]) -> int:
    """`command.execute`."""
    return command.execute(with_executor(arguments) if _inline else arguments)


def with_executor(arguments: Sequence[str]) -> list[str]:
    """The arguments, and the flag where their job has it."""
    name, *rest = arguments or [""]
    if name not in command.JOBS or "executor" not in import_module(f"ray_rerank.jobs.{name}").Config.model_fields:
        return list(arguments)
    at = rest.index("--") if "--" in rest else len(rest)
    return [name, *rest[:at], "--executor", "inline", *rest[at:]]
