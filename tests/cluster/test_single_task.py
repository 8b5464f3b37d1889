import os
import time
from functools import partial

import pytest

from ray_rerank.cluster.errors import ClusterError, WorkerDiedError
from ray_rerank.cluster.single_task import run_alone

pytestmark = pytest.mark.usefixtures("ray_here")


def test_a_call_runs_in_another_process_and_the_next_one_on_the_same_node() -> None:
    found, node = run_alone(os.getpid, 1, 0, 60)
    assert found != os.getpid()
    assert run_alone(os.getpid, 1, 0, 60, node)[1] == node


def test_a_worker_that_dies_is_told_and_a_call_that_raises_is_told_apart() -> None:
    with pytest.raises(WorkerDiedError, match=r"its worker died, or .*worker died"):
        run_alone(partial(os._exit, 1), 1, 0, 60)
    with pytest.raises(ClusterError, match=r"it failed in its worker: ValueError: .*'x'"):
        run_alone(partial(int, "x"), 1, 0, 60)


def test_a_call_that_stands_still_ends() -> None:
    with pytest.raises(WorkerDiedError, match="after 2 s without a sign of life"):
        run_alone(partial(time.sleep, 3600), 1, 0, 2)
