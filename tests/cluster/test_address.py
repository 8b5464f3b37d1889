"""An address at which there is no Ray cluster is told at once, with where it came from."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ray_rerank.cluster import address
from ray_rerank.cluster.address import Address, check_alive
from ray_rerank.cluster.errors import ClusterError


@contextmanager
def silent() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def web() -> Iterator[int]:
    """An HTTP server."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.timeout = 0.1
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def nothing() -> Iterator[int]:
    """A port that was just given up."""
    with silent() as port:
        pass
    yield port


@pytest.mark.parametrize("form", ["{}:{}", "ray://{}:{}"])
@pytest.mark.parametrize("source", ["--address", "RAY_ADDRESS in the environment"])
@pytest.mark.parametrize(
    ("there", "told"),
    [(silent, "not as Ray does"), (web, "not as Ray does"), (nothing, "Connection refused")],
)
def test_what_is_no_cluster_is_told(monkeypatch: pytest.MonkeyPatch, form: str, source: str, there, told: str) -> None:
    monkeypatch.setattr(address, "_ANSWER_S", 0.3)
    with there() as port:
        given = form.format("127.0.0.1", port)
        monkeypatch.setenv("RAY_ADDRESS", given if source != "--address" else "")
        found = Address.of(given if source == "--address" else None)
        with pytest.raises(ClusterError) as error:
            check_alive(found)
    assert str(error.value).startswith(f"the Ray cluster at {given} (from {source}) cannot be reached: ")
    assert str(error.value).endswith(told)


def test_a_host_that_is_not_known_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    with pytest.raises(ClusterError, match=r"head:6379 .* cannot be reached: Name or service not known"):
        check_alive(Address.of("head:6379"))


@pytest.mark.parametrize(
    "given",
    ["", " ", "head", "head:", ":6379", "head:0", "head:99999", "http://head:1", "a b", "ray://head", "me@head:1"],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ClusterError, match=r"HOST:PORT of the head, ray://HOST:PORT"):
        Address.of(given)


def test_a_user_in_an_address_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "geheim@head:6379")
    with pytest.raises(ClusterError) as error:
        Address.of(None)
    assert "geheim" not in str(error.value) and "@head:6379 (from RAY_ADDRESS" in str(error.value)
    assert "holds a user or a key" in str(error.value)


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        (None, "", Address(None)),
        (None, "head:1", Address("head:1", "RAY_ADDRESS in the environment")),
        ("auto", "head:1", Address("head:1", "RAY_ADDRESS in the environment")),
        ("auto", "", Address("auto")),
        ("other:2", "head:1", Address("other:2")),
        ("local", "head:1", Address(None)),
        ("[::1]:6379", "", Address("[::1]:6379")),
    ],
)
def test_what_is_given_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, given: str | None, environment: str, expected: Address
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", environment)
    assert Address.of(given) == expected
