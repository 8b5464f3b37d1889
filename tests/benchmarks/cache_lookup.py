"""A unit of 20,000 pairs looked up in caches of 1, 10 and 50 million entries: time and memory must stay within 2x.

    PYTHONPATH=tests python tests/benchmarks/cache_lookup.py --millions 1 10 50

The caches are made up: uniform random hashes, 100 documents a query, as `ray-rerank cache compact` leaves them. Each
cache is looked up in a process of its own, whose memory is its peak resident set (Linux) less what it had before.
`first` is
a worker's first unit, which reads the footers too, `later` the median of the units after it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ray_rerank.cluster.score_cache.cache_files import to_table, write_run
from ray_rerank.cluster.score_cache.lookup import ScoreCache
from ray_rerank.cluster.score_cache.upkeep import FILE_ROWS

A_QUERY = 100
IDENTITY = {"kind": "made up"}


def main() -> None:
    """Make each cache, look up in it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--pairs", type=int, default=20_000, help="of a unit; half of them are in the cache")
    parser.add_argument("--units", type=int, default=12)
    parser.add_argument("--look", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look:
        print(json.dumps(look(given.look, given.pairs, given.units)))
        return
    shown = Table("entries", "files", "MB", "first, ms", "later, ms", "memory, MB", "found", box=None)
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        for millions in given.millions:
            folder = Path(scratch) / str(millions)
            make(folder, millions * 1_000_000)
            command = [sys.executable, __file__, "--look", str(folder), "--pairs", str(given.pairs)]
            done = subprocess.run([*command, "--units", str(given.units)], check=True, capture_output=True, text=True)
            told = json.loads(done.stdout)
            figures.append(told)
            files = list(folder.glob("*/*.parquet"))
            megabytes = sum(file.stat().st_size for file in files) / 1e6
            cells = [f"{told['first'] * 1e3:.0f}", f"{told['later'] * 1e3:.0f}", f"{told['memory'] / 1e6:.0f}"]
            shown.add_row(f"{millions} M", str(len(files)), f"{megabytes:,.0f}", *cells, f"{told['found']:.1%}")
            for file in files:
                file.unlink()
    last, one = figures[-1], figures[0]
    ratios = [f"{last[name] / one[name]:.2f}" for name in ("first", "later", "memory")]
    shown.add_row("ratio", "", "", *ratios, "")
    Console(width=120, highlight=False).print(shown)


def keys(draw: np.random.Generator, count: int) -> np.ndarray:
    """Random keys, uint8 of (count, 16)."""
    return draw.integers(0, 256, (count, 16), dtype=np.uint8)


def make(folder: Path, count: int) -> None:
    """Write a compacted cache, and some of its keys for the lookups."""
    cache = ScoreCache.open(str(folder), IDENTITY)
    draw = np.random.default_rng(count)
    parts = -(-count // FILE_ROWS)
    sample = []
    for part in range(parts):
        own = count // parts // A_QUERY * A_QUERY
        query = keys(draw, own // A_QUERY)
        first = draw.integers(part * 2**32 // parts, (part + 1) * 2**32 // parts, len(query), dtype=np.uint64)
        query[:, :4] = first.astype(">u4").view(np.uint8).reshape(-1, 4)
        document = keys(draw, own)
        write_run(cache.folder, to_table(query.repeat(A_QUERY, axis=0), document, draw.random(own, np.float32)), 1.0)
        sample.append(np.concatenate([query.repeat(A_QUERY, axis=0), document], axis=1).reshape(-1, A_QUERY, 32)[:2000])
    np.save(folder / "sample.npy", np.concatenate(sample))


def look(folder: str, pairs: int, units: int) -> dict[str, float]:
    """Time lookups of units in which half of each query's documents are in the cache."""
    sample = np.load(Path(folder) / "sample.npy", mmap_mode="r")
    draw = np.random.default_rng(0)
    asked = []
    for _ in range(units):
        chosen = sample[np.sort(draw.choice(len(sample), pairs // A_QUERY, replace=False))].copy()
        chosen[:, ::2, 16:] = draw.integers(0, 256, chosen[:, ::2, 16:].shape, dtype=np.uint8)
        asked.append(chosen.reshape(-1, 32))
    cache = ScoreCache.open(folder, IDENTITY)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    times, found = [], 0
    for unit in asked:
        started = time.perf_counter()
        score, _ = cache.lookup(unit[:, :16], unit[:, 16:])
        times.append(time.perf_counter() - started)
        found += int((~np.isnan(score)).sum())
    grown = status("VmHWM") - before
    later = statistics.median(times[1:])
    return {"first": times[0], "later": later, "memory": grown, "found": found / (pairs * units)}


def status(name: str) -> int:
    """A figure of this process's memory, in bytes (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
