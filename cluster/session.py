"""A connection to Ray, local or remote, with Ray's own chatter kept out of the user's terminal."""

import logging
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from ray_rerank.cluster.address import Address, answers, check_alive, unreached
from ray_rerank.cluster.errors import ClusterError, ClusterLostError
from ray_rerank.cluster.own_code import copy_code
from ray_rerank.cluster.ray_folder import ray_folder
from ray_rerank.cluster.stopping import finishing

_UNIT_LIMIT_S = 24 * 3600  # Ray Data raises after this long without a finished task; units take minutes
_CONNECT_S = 60.0
_START_S = 300.0  # Ray's own limits end it long before
_END_S = 60.0
_LINGER_S = 5.0  # for processes of Ray that are to end by themselves
_GLANCE_S = 0.01
_WAIT_S = 0.5  # between two looks at the node of this machine
_LOOK_S = 5.0  # between two looks at the head
_SILENT_LOOKS = 4  # after which it is lost: Ray ends this process after 60 s, without a word
_REFUSED = 2  # exit code
_OPEN_FILES = 1024  # of a process, what most systems allow at least
_LEFT = ("RAY_", "PYTHONPATH", "PYTHONBREAKPOINT")  # what Ray writes into the environment
_TOKEN = uuid.uuid4().hex
_busy = threading.RLock()
_told: set[Address] = set()


@contextmanager
def session(address: str | None = None, *, cpus: int) -> Iterator[dict[str, float]]:
    """Connect to a cluster, or start Ray on this machine, for the length of a with-block.

    Inside a Ray process that is already connected, that connection is used and left as it is. A process has one
    Ray: a second thread that comes meanwhile is refused.

    Args:
        address: a running cluster (`auto`, `HOST:PORT`, `ray://HOST:PORT`); None is that of RAY_ADDRESS where it is
            set, else Ray is started here, as with `local`.
        cpus: CPUs to start with here: Ray itself would count those of the machine, quota or not.

    Yields:
        The cluster's resources, such as {"CPU": 2.0, "GPU": 1.0}.

    Raises:
        ClusterError: the cluster cannot be reached, or Ray not be started.
        ClusterLostError: it does not answer any more; raised out of the with-block.
    """
    if not _busy.acquire(blocking=False):
        raise ClusterError("another job of this process is using Ray; start one after the other, or in processes apart")
    try:
        with _environment():
            import ray

            if ray.is_initialized():
                yield _resources(ray)
                return
            with _connection(ray, Address.of(address), cpus):
                yield _resources(ray)
    finally:
        _busy.release()


def _resources(ray: Any) -> dict[str, float]:
    _quiet()
    return dict(ray.cluster_resources())


@contextmanager
def _environment() -> Iterator[None]:
    """What Ray reads, and writes, of the environment is put back as it was."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_LEFT)}
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(_LEFT)]:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _connection(ray: Any, address: Address, cpus: int) -> Iterator[None]:
    """Ray is started and ended in a thread of its own, which no signal can interrupt half-way.

    The thread lasts as long as Ray does: the kernel kills Ray's processes when the thread that started them ends,
    and so with this process, however that ends.
    """
    if address.here:
        _check_open_files()
    else:
        check_alive(address)
    connection = _Connection(ray, address, cpus)
    try:
        connection.start()
        limit = _START_S if address.here else _CONNECT_S
        if not _await(connection.ready, limit):
            connection.error = TimeoutError(f"timed out: no answer in {limit:g} s.")
        if connection.error:
            raise _told_of(address, connection.error) from None
        if not address.here and address not in _told:
            _told.add(address)
            print(f"running on the Ray cluster at {address}", file=sys.stderr)
        try:
            yield
        except BaseException:
            if connection.lost:
                raise connection.lost from None
            raise
    finally:
        with finishing():
            connection.over.set()
            if connection.ident and (address.here or connection.ready.is_set()):
                _await(connection.ended, _END_S)


def _await(event: threading.Event, limit: float) -> bool:
    """Wait while Ray starts or ends: its core takes SIGTERM for itself, to print a stack and abort, and resets it.

    Both times it is taken back at once.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    deadline = time.monotonic() + limit
    there = False
    while not there and time.monotonic() < deadline:
        there = event.wait(_GLANCE_S)
        if main and handler is not None:
            signal.signal(signal.SIGTERM, handler)
    return there


class _Connection(threading.Thread):
    def __init__(self, ray: Any, address: Address, cpus: int) -> None:
        super().__init__(daemon=True, name="ray")
        self.ready, self.over, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self.lost: ClusterLostError | None = None
        self._by_main = threading.current_thread() is threading.main_thread()
        self._ray, self._address, self._cpus = ray, address, cpus

    def run(self) -> None:
        ours: list[psutil.Process] = []
        try:
            ours = _start(self._ray, self._address, self._cpus)
        except BaseException as error:  # Ray raises bare Exception where a node does not come up in time
            self.error = error
        self.ready.set()
        try:
            if not self.error:
                self._watch(self._ray.get_runtime_context().gcs_address, ours)
                ours += [process for one in ours for process in _below(one)]
                if not self.lost:  # else it would wait for an answer
                    self._ray.shutdown()
                _end(ours, 0 if self.lost else _LINGER_S)
        finally:
            self.ended.set()

    def _watch(self, head: str, ours: list[psutil.Process]) -> None:
        """Until the connection is over, or the head has not answered for a while; then the main thread is told.

        Where Ray's node on this machine has gone, Ray ends this process in some seconds, without a word.
        """
        silent, looked = 0, time.monotonic()
        node = [process for process in ours if _is_alive(process) and process.name() == "raylet"]
        workers: set[psutil.Process] = set()
        while silent < _SILENT_LOOKS and all(map(_is_alive, node)):
            if self.over.wait(_WAIT_S):
                return
            if time.monotonic() - looked >= _LOOK_S:
                silent, looked = 0 if answers(head) else silent + 1, time.monotonic()
                workers.update(*map(_below, node))
        ours += workers  # of a node that has gone, they are nobody's children
        where = "Ray on this machine" if self._address.here else f"the Ray cluster at {self._address}"
        self.lost = ClusterLostError(
            f"{where} does not answer any more; what is committed stays, and the same command goes on from here"
        )
        if self._by_main:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if not self.over.wait(_LINGER_S):  # what tidies up waits for Ray, too
            _end(ours, 0)
            print(f"ray-rerank: {self.lost}", file=sys.stderr, flush=True)
            os._exit(_REFUSED)


def _start(ray: Any, address: Address, cpus: int) -> list[psutil.Process]:
    """Ray's processes that are children of this one; Ray has 30 s for them, twice: work may take all CPUs."""
    before = _below(psutil.Process(), recursive=False)
    for attempts_left in (1, 0):
        try:
            with _no_stderr(), _own_groups():
                _connect(ray, address, cpus)
            break
        except Exception as error:
            _end(_ray_processes(ray, before), 0)
            if not (address.here and attempts_left and "timed out" in str(error)):
                raise
    return _ray_processes(ray, before)


def _told_of(address: Address, error: BaseException) -> ClusterError:
    if isinstance(error, ClusterError):
        return error
    if address.here:
        hint = ""
        if "timed out" in str(error):
            hint = " Other work may keep it from answering in time; the same command can be run again"
        return ClusterError(f"Ray did not start on this machine: {error}{hint}")
    hint = ""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        hint = (
            "; a cluster that asks for a token is reached with RAY_AUTH_MODE=token and the token in ~/.ray/auth_token"
        )
    return unreached(address, f"{error}{hint}")


def _connect(ray: Any, address: Address, cpus: int) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address.here:
        folders = ray_folder()
        if not (Path(os.environ.get("HOME") or "/") / ".ray" / "auth_token").exists():
            os.environ.setdefault("RAY_AUTH_TOKEN", _TOKEN)  # else Ray writes one into the home, if there is any
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **folders, **quiet)
    else:
        submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ  # the job brought its code along
        with tempfile.TemporaryDirectory() as folder:
            code = None if submitted else {"py_modules": [str(copy_code(Path(folder)))]}
            ray.init(address=address.text, runtime_env=code, **quiet)


def _check_open_files() -> None:
    """Ray lifts the soft limit to the hard one itself."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _OPEN_FILES:
        raise ClusterError(
            f"a process may have {most} files open here, and Ray needs {_OPEN_FILES} at least; raise the limit "
            f"(`ulimit -n {4 * _OPEN_FILES}`) and run the same command again"
        )


def _below(process: psutil.Process, recursive: bool = True) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=recursive))
    except psutil.NoSuchProcess:
        return []


def _ray_processes(ray: Any, before: list[psutil.Process]) -> list[psutil.Process]:
    """Children that came since, and are Ray's: another thread may start some of its own."""
    home = str(Path(ray.__file__).parent)
    found = []
    for process in _below(psutil.Process(), recursive=False):
        with suppress(psutil.Error):
            if process not in before and any(part.startswith(home) for part in process.cmdline()):
                found.append(process)
    return found


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _end(processes: list[psutil.Process], patience: float) -> None:
    """Workers end by themselves when they miss their node; what does not is killed."""
    _, alive = psutil.wait_procs(processes, timeout=patience)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=_LINGER_S)


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


@contextmanager
def _own_groups() -> Iterator[None]:
    """Ray's processes in groups of their own: `timeout`, and a terminal that closes, signal the whole group of a job.

    The job is then to end Ray, and not to find it gone.
    """
    from ray._private import services

    popen = services.ConsolePopen

    class Apart(popen):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, process_group=0, **options)

    services.ConsolePopen = Apart
    try:
        yield
    finally:
        services.ConsolePopen = popen


def _quiet() -> None:
    import ray.data

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.execution_no_progress_timeout_s = _UNIT_LIMIT_S
