"""Which Ray cluster a job is for, who says so, and whether anything of the kind answers there."""

import os
import socket
from dataclasses import dataclass

from ray_rerank.cluster.errors import ClusterError
from ray_rerank.cluster.secrets import has_secret, shown

_ANSWER_S = 5.0
_FLAG = "--address"
_ENVIRONMENT = "RAY_ADDRESS in the environment"
_FORMS = "HOST:PORT of the head, ray://HOST:PORT of its client server, or auto for the one that runs on this machine"


@dataclass(frozen=True, slots=True)
class Address:
    """Where Ray is.

    Attributes:
        text: as `ray.init` takes it; None is this machine, with a Ray of the job's own.
        source: who says so.
    """

    text: str | None
    source: str = _FLAG

    @classmethod
    def of(cls, given: str | None) -> "Address":
        """What is given, else what the environment says; as Ray has it, the environment decides what `auto` is.

        Raises:
            ClusterError: it is no address.
        """
        if given is not None and not given.strip():
            raise ClusterError(f"{_FLAG} is empty; leave it out to run on this machine, or give {_FORMS}")
        named = os.environ.get("RAY_ADDRESS")
        found = cls(named, _ENVIRONMENT) if named and given in (None, "auto") else cls(given)
        if found.text in (None, "local"):
            return cls(None)
        if has_secret(f"ray://{found.text}"):
            raise ClusterError(f"{found} holds a user or a key, which an address of Ray has not; give {_FORMS}")
        if found.text != "auto":
            found.host_and_port()
        return found

    @property
    def here(self) -> bool:
        """Whether Ray is started on this machine, for the job alone."""
        return self.text is None

    def __str__(self) -> str:
        return f"{shown(f'ray://{self.text}').removeprefix('ray://')} (from {self.source})"

    def host_and_port(self) -> tuple[str, int]:
        """The two parts of an address that is not `auto`."""
        host, _, port = (self.text or "").removeprefix("ray://").rpartition(":")
        if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise ClusterError(f"{self} is no address of a Ray cluster: {_FORMS}")
        return host.strip("[]"), int(port)


def check_alive(address: Address) -> None:
    """See in seconds whether a Ray cluster may be there: Ray itself tries for minutes and says nothing.

    Raises:
        ClusterError: there is none; the message says where, and where that came from.
    """
    if address.text == "auto":
        _check_found(address)
        return
    host, port = address.host_and_port()
    try:
        socket.create_connection((host, port), timeout=_ANSWER_S).close()
    except OSError as error:  # a name that is not known, too
        fault = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise unreached(address, fault) from None
    if not _speaks_grpc(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"):
        raise unreached(address, "something listens there, but not as Ray does")


def answers(host_and_port: str) -> bool:
    """Whether a head that was there still is, or may be: where its name cannot be looked up, that is not known."""
    host, _, port = host_and_port.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except socket.gaierror:
        return True
    except OSError:
        return False
    return True


def unreached(address: Address, fault: str) -> ClusterError:
    """The cluster is not there, or does not take this job."""
    return ClusterError(f"the Ray cluster at {address} cannot be reached: {fault}")


def _check_found(address: Address) -> None:
    from ray._private.services import get_ray_address_from_environment

    try:
        found = get_ray_address_from_environment("auto", None)
    except ConnectionError:
        raise ClusterError(f"{address}: no Ray cluster is running on this machine") from None
    check_alive(Address(found, f"{address.source}, auto"))


def _speaks_grpc(target: str) -> bool:
    if os.environ.get("RAY_USE_TLS", "").lower() in {"1", "true"}:
        return True  # certificates are Ray's own matter
    import grpc

    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_ANSWER_S)
        except grpc.FutureTimeoutError:
            return False
    return True
