"""One function in several processes at once, as Ray Train runs it: restarted from its own files when one is lost."""

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ray_rerank.cluster.attempts import alive, time_limit
from ray_rerank.cluster.errors import ClusterError, last_line
from ray_rerank.cluster.own_code import carried

_WAIT_S = 6 * 3600.0  # for the first process alone, while the others stand at a collective


def run_data_parallel(
    function: Callable[[Any, Callable[[], None]], None],
    argument: Any,
    *,
    workers: int,
    cpus: int,
    resources: Mapping[str, float],
    folder: Path,
    progress: Path,
    max_failures: int,
    seconds: float,
) -> None:
    """Call `function(argument, alive)` in so many Ray Train workers, joined in one torch process group.

    Each has a GPU where the cluster has any (NCCL), else CPUs alone (gloo). When a worker is lost all are
    started again, up to `max_failures` times; the function has to find its own newest checkpoint. A worker that stands
    still keeps the first one waiting, which then ends itself, and so is lost.

    Args:
        function: importable in the workers; what it leaves it writes to paths that all of them and this process see.
        cpus: of each worker.
        resources: the cluster's, as `session` yields them.
        folder: where Ray Train keeps its own notes; all nodes see it.
        seconds: that the first worker may take between two calls of `alive`.
        progress: a file whose new lines are shown on stderr meanwhile.

    Raises:
        ClusterError: the cluster is too small, or the workers failed too often.
    """
    from ray.exceptions import RayError
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError

    use_gpu = resources.get("GPU", 0) > 0
    for name, each in (("CPU", cpus), ("GPU", int(use_gpu))):
        if workers * each > resources.get(name, 0):
            raise ClusterError(
                f"{workers} workers of {each} {name} are asked for, and the cluster has {resources.get(name, 0):g}; "
                "take fewer workers or threads"
            )
    run = carried(functools.partial(_in_time, function, argument, seconds))

    def loop() -> None:  # Ray Train counts parameters
        run()

    class Trainer(TorchTrainer):  # type: ignore[misc]
        """Leaves signals alone: Ray Train would keep Ctrl-C for itself, and end the process with exit code 0."""

        def _register_sigint_handler(self, controller: Any) -> None:
            pass

    trainer = Trainer(
        loop,
        torch_config=TorchConfig(timeout_s=int(_WAIT_S)),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker={"CPU": cpus}),
        run_config=RunConfig(
            name="training",
            storage_path=str(folder.absolute()),
            failure_config=FailureConfig(max_failures=max_failures),
        ),
    )
    try:
        with _shown(progress):
            trainer.fit()
    except (RayError, ControllerError) as error:  # not a worker, or one that was lost before it had begun
        raise ClusterError(
            f"Ray Train gave up: {_reason(error)}; the same command goes on from the newest checkpoint"
        ) from None
    except TrainingFailedError as error:
        raise ClusterError(
            f"the workers failed {max_failures + 1} times, the last time with: {_reason(error)}; once that is mended "
            "the same command goes on from the newest checkpoint"
        ) from None


def _in_time(function: Callable[[Any, Callable[[], None]], None], argument: Any, seconds: float) -> None:
    import ray.train

    first = ray.train.get_context().get_world_rank() == 0
    with time_limit(seconds) if first else nullcontext():
        function(argument, alive)


def _reason(error: Exception) -> str:
    failures = getattr(error, "worker_failures", None) or {0: error}
    return last_line(next(iter(failures.values())))


@contextmanager
def _shown(progress: Path) -> Iterator[None]:
    """Print what is added to a file, line by line, for the length of a with-block."""
    done = threading.Event()
    seen = progress.stat().st_size if progress.exists() else 0

    def follow() -> None:
        nonlocal seen
        last = False
        while not last:
            last = done.wait(1)
            if progress.exists():
                with progress.open(encoding="utf-8") as file:
                    file.seek(seen)
                    sys.stderr.write(file.read())
                    seen = file.tell()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
