"""One function in several Ray Train workers: joined in one group, and started again when one is lost."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
from ray_rerank.cluster.errors import ClusterError
from ray_rerank.cluster.ray_train import run_data_parallel

HERE = {"CPU": 2.0}


def run(function: Any, folder: Path, failures: int = 0, **changed: Any) -> None:
    settings: dict[str, Any] = {"workers": 2, "cpus": 1, "resources": HERE, "seconds": 600} | changed
    run_data_parallel(
        function, str(folder), folder=folder / "ray", progress=folder / "progress", max_failures=failures, **settings
    )


def test_a_lost_worker_costs_a_restart_and_not_the_run(
    tmp_path: Path, ray_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def function(folder: str, alive: Any) -> None:  # inside the test, so that it travels by value
        import os
        import time
        from pathlib import Path

        import torch

        rank, tried = torch.distributed.get_rank(), Path(folder) / "tried"
        total = torch.tensor([float(rank + 1)])
        torch.distributed.all_reduce(total)
        if rank == 1 and not tried.exists():
            tried.touch()
            time.sleep(1)  # Ray Train 2.60 takes a worker lost as it starts for a fault of its own, and gives up
            os._exit(1)
        torch.distributed.barrier()
        with Path(folder, "progress").open("a") as file:
            file.write(f"rank {rank} of {torch.distributed.get_world_size()} sums {total.item():g}\n")

    run(function, tmp_path, failures=3)
    assert (tmp_path / "tried").exists()
    told = capsys.readouterr().err.splitlines()
    assert sorted(told) == ["rank 0 of 2 sums 3", "rank 1 of 2 sums 3"]


def test_what_fails_every_time_is_told_in_one_line(tmp_path: Path, ray_here: None) -> None:
    def function(folder: str, alive: Any) -> None:
        raise ValueError("the pen is broken")

    with pytest.raises(ClusterError, match=r"failed 1 times.*the pen is broken"):
        run(function, tmp_path)


def test_more_workers_than_the_cluster_has_room_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="2 workers of 3 CPU"):
        run(print, tmp_path, cpus=3)


@pytest.mark.slow
def test_a_worker_that_stands_still_is_lost_and_started_again(tmp_path: Path, ray_here: None) -> None:
    def function(folder: str, alive: Any) -> None:
        import time
        from pathlib import Path

        import torch

        rank, tried = torch.distributed.get_rank(), Path(folder) / "tried"
        for _ in range(4):
            time.sleep(1)
            alive()
        if rank == 1 and not tried.exists():
            tried.touch()
            time.sleep(3600)
        torch.distributed.barrier()
        Path(folder, f"done-{rank}").touch()

    run(function, tmp_path, failures=3, seconds=8)
    assert (tmp_path / "tried").exists() and (tmp_path / "done-0").exists() and (tmp_path / "done-1").exists()
