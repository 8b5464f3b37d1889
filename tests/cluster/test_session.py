"""Ray on this machine is started again where it did not come up in time; anything else is told at once."""

from typing import Any

import pytest

from cluster import session
from cluster.address import Address
from cluster.errors import ClusterError

SLOW = "The current node timed out during startup."


def attempts(monkeypatch: pytest.MonkeyPatch, *faults: str) -> list[str]:
    """How often Ray was started, of which the first fail so."""
    tried: list[str] = []

    def connect(*_: Any) -> None:
        tried.append(faults[len(tried)] if len(tried) < len(faults) else "")
        if tried[-1]:
            raise Exception(tried[-1])

    monkeypatch.setattr(session, "_connect", connect)
    monkeypatch.setattr(session, "check_alive", lambda _: None)
    return tried


def connect(given: str | None) -> None:
    import ray

    with session._connection(ray, Address.of(given), 1):
        pass


def test_a_start_that_took_too_long_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = attempts(monkeypatch, SLOW)
    connect("local")
    assert tried == [SLOW, ""]


@pytest.mark.parametrize(("faults", "count"), [((SLOW, SLOW, SLOW), 2), (("no space left",), 1)])
def test_what_does_not_pass_is_told(monkeypatch: pytest.MonkeyPatch, faults: tuple[str, ...], count: int) -> None:
    tried = attempts(monkeypatch, *faults)
    with pytest.raises(ClusterError, match=f"did not start on this machine: {faults[0]}"):
        connect("local")
    assert len(tried) == count


def test_a_cluster_elsewhere_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = attempts(monkeypatch, SLOW)
    with pytest.raises(ClusterError, match=r"head:6379 \(from --address\) cannot be reached"):
        connect("head:6379")
    assert len(tried) == 1
