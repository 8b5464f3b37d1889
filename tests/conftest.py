"""What all tests share: small random models with real tokenizers, candidates made up on the spot, one Ray."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.command import without_ray
from support.models import write_cross_encoder
from support.paths import SHARED

settings.register_profile("times are noise", deadline=None)
settings.load_profile("times are noise")

for name, value in {"num_workers_soft_limit": 12, "idle_worker_killing_time_threshold_ms": 600_000}.items():
    os.environ[f"RAY_{name}"] = str(value)  # workers wait for the next test's job: starting one takes seconds


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real collections and models, where it is present."""
    if not (SHARED / "data" / "dl20").is_dir():
        pytest.skip(f"the real collections are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random cross-encoder."""
    return write_cross_encoder(tmp_path_factory.mktemp("model") / "cross-encoder")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For models so small that they are slower on many threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_process() -> Iterator[None]:
    """A test `without_ray`."""
    with without_ray():
        yield


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """One local Ray for all tests of a session."""
    from ray_rerank.cluster.session import session

    with session(cpus=3):
        yield
