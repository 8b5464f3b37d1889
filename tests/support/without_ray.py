"""Jobs in this process."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest


@contextmanager
def without_ray() -> Iterator[None]:
    """Jobs without Ray: units one after the other here, by the very steps that actors and tasks would run.

    For what a job makes of its input. How work is spread, lost and done again is tested on Ray: a start of an actor
    takes seconds.
    """
    import torch

    from ray_rerank.jobs import rerank
    from ray_rerank.jobs.compare import job as compare
    from ray_rerank.jobs.label import job as label
    from ray_rerank.jobs.mine import vectors

    def serial(units: Any, read: Any, pools: Any, commit: Any, *_: Any, **__: Any) -> Iterator[Any]:
        steps = [pool.load() for pool in pools]
        for unit in units:
            payload, failure = None, None
            try:
                payload = read(unit)
                for step in steps:
                    payload = step(unit, payload)
            except Exception as error:
                payload, failure = None, f"{type(error).__name__}: {error}"
            yield commit(unit, payload, failure)

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for module in (compare, label, rerank, vectors):
            patch.setattr(module, "session", lambda *_, **__: nullcontext({"CPU": 3.0}))
            patch.setattr(module, "stream", serial, raising=False)
        yield
    torch.set_num_threads(threads)
