"""Exact search over 100 thousand and over 1 million synthetic vectors: seconds, and memory against the stated bound."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ray_rerank.operators.retrieval.dense import QUERY_BLOCK, nearest

DIMENSION, BLOCK, QUERIES, K = 384, 8192, 1000, 100
BOUND = (
    3 * BLOCK * DIMENSION * 4  # a block as it is read, in float32, and normalised
    + 3 * QUERY_BLOCK * BLOCK * 4  # its similarities to a block of queries, and which are better
    + QUERIES * (12 * K + 4 * DIMENSION)  # the results, and the queries
)
"""Bytes on top of what the process weighs before: no term grows with the corpus."""


def main() -> int:
    """Run both sizes in processes of their own; 1 where the bound is passed."""
    if len(sys.argv) > 1:
        return _search(Path(sys.argv[1]))
    table = Table(box=None)
    for name in ("vectors", "file MB", "seconds", "memory MB", "bound MB"):
        table.add_column(name, justify="right")
    grown = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (100_000, 1_000_000):
            path = Path(folder) / f"{count}.f16"
            _write(path, count)
            size = path.stat().st_size
            told = subprocess.run([sys.executable, __file__, str(path)], capture_output=True, text=True, check=True)
            seconds, grown[count] = (float(word) for word in told.stdout.split())
            path.unlink()
            figures = [f"{count:,}", f"{size / 1e6:.0f}", f"{seconds:.1f}"]
            table.add_row(*figures, f"{grown[count] / 1e6:.0f}", f"{BOUND / 1e6:.0f}")
    Console(highlight=False).print(table)
    print(f"memory of ten times the corpus: x{grown[1_000_000] / grown[100_000]:.2f}")
    return int(max(grown.values()) > BOUND)


def _write(path: Path, count: int) -> None:
    draw = np.random.default_rng(count)
    with path.open("wb") as file:
        for start in range(0, count, BLOCK):
            rows = min(BLOCK, count - start)
            file.write(draw.standard_normal((rows, DIMENSION), np.float32).astype(np.float16).tobytes())


def _blocks(path: Path) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        while data := file.read(BLOCK * DIMENSION * 2):
            yield np.frombuffer(data, np.float16).reshape(-1, DIMENSION)


def _search(path: Path) -> int:
    queries = np.random.default_rng(0).standard_normal((QUERIES, DIMENSION), np.float32)
    nearest(queries[:2], [queries], 1, "cosine")  # what BLAS sets aside for itself
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    started = time.perf_counter()
    nearest(queries, _blocks(path), K, "cosine")
    print(time.perf_counter() - started, _status("VmHWM") - before)
    return 0


def _status(name: str) -> int:
    """A figure of this process's memory, in bytes (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
