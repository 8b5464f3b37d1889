"""A connection to Ray, local or remote, with Ray's own chatter kept out of the user's terminal."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.errors import ClusterError
from cluster.own_code import PACKAGES, ROOT

_UNIT_LIMIT_S = 24 * 3600  # Ray Data raises after this long without a finished task; units take minutes


@contextmanager
def session(address: str | None = None, *, cpus: int) -> Iterator[dict[str, float]]:
    """Connect to a cluster, or start Ray on this machine, for the length of a with-block.

    Inside a Ray process that is already connected, that connection is used and left as it is.

    Args:
        address: a running cluster (`auto`, `HOST:PORT`, `ray://HOST:PORT`); None starts Ray here.
        cpus: CPUs to start with here: Ray itself would count those of the machine, quota or not.

    Yields:
        The cluster's resources, such as {"CPU": 2.0, "GPU": 1.0}.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    mine = not ray.is_initialized()
    if mine:
        _start(ray, address, cpus)
    try:
        _quiet()
        yield dict(ray.cluster_resources())
    finally:
        if mine:
            ray.shutdown()


def _start(ray: Any, address: str | None, cpus: int) -> None:
    here = _is_here(address)
    try:
        with _no_stderr():
            try:
                _connect(ray, address, cpus)
            except Exception as error:
                if not (here and "timed out" in str(error)):
                    raise
                _connect(ray, address, cpus)  # Ray gives itself 30 s, too few beside work that takes all CPUs
    except Exception as error:  # Ray raises bare Exception where a node does not come up in time
        hint = (
            "; a cluster that asks for a token is reached with RAY_AUTH_MODE=token and the token in ~/.ray/auth_token"
            if address and os.environ.get("RAY_AUTH_MODE") != "token"
            else ""
        )
        if here:
            raise ClusterError(
                f"Ray did not start on this machine: {error} Other work may keep it from answering in time; the same "
                "command can be run again"
            ) from None
        raise ClusterError(f"Ray at {address or os.environ['RAY_ADDRESS']} cannot be reached: {error}{hint}") from None


def _is_here(address: str | None) -> bool:
    return address is None and not os.environ.get("RAY_ADDRESS")


def _connect(ray: Any, address: str | None, cpus: int) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if _is_here(address):
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    else:
        submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ  # the job brought its code along
        ray.init(address=address, runtime_env=None if submitted else _code(), **quiet)


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Ray's core tells its own log level on file descriptor 2; what goes wrong it raises."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _code() -> dict[str, Any]:
    """Workers on other machines are sent the three packages, without the model that ships inside."""
    modules = [str(ROOT / name) for name in PACKAGES]
    return {"py_modules": modules, "excludes": ["*.safetensors", "__pycache__"]}


def _quiet() -> None:
    import ray.data

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.execution_no_progress_timeout_s = _UNIT_LIMIT_S
