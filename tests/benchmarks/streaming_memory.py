"""Peak memory of the rerank job over 10 and over 100 work units of one size: it must not grow with their number.

    PYTHONPATH=tests python tests/benchmarks/streaming_memory.py --units 10 100 --unit-mb 6

The job runs as its user would run it, `python -m ray_rerank.jobs rerank`, in a process group of its own, and is watched
from
outside through /proc (so on Linux only): the driver, the raylet, the largest worker, and the pages that the object
store's shared memory really has, which is what lies in it and not how large it may become.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from ray_rerank.operators.candidates.schema import CANDIDATE_SCHEMA
from support.candidates import WORDS
from support.models import write_cross_encoder
from support.paths import ROOT

EVERY_S = 0.1
MB = 1_000_000
_PLASMA = re.compile(r"/dev/shm|plasma", re.IGNORECASE)


@dataclass(slots=True)
class Peaks:
    """The largest seen, in bytes.

    Attributes:
        driver: resident memory of the process that plans and reports, pages shared with the object store included.
        driver_own: the same without shared pages: what the driver itself holds.
        store: pages of the object store.
        worker: resident memory, without shared pages, of the largest Ray worker.
    """

    driver: int = 0
    driver_own: int = 0
    store: int = 0
    worker: int = 0

    def see(self, other: "Peaks") -> None:
        """Keep the larger of each."""
        for field in fields(self):
            setattr(self, field.name, max(getattr(self, field.name), getattr(other, field.name)))


def main() -> None:
    """Write the input, run the job over each number of units, print the peaks side by side."""
    given = arguments()
    console = Console(width=140, highlight=False)
    with tempfile.TemporaryDirectory() as scratch:
        model = write_cross_encoder(Path(scratch) / "model", hidden_size=16, num_hidden_layers=1, intermediate_size=16)
        runs: list[tuple[int, float, Peaks]] = []
        for units in given.units:
            folder = Path(scratch) / str(units)
            for unit in range(units):
                write_unit(folder / "in" / f"{unit:04}.parquet", unit, given.queries, given.depth, given.unit_mb * MB)
            started = time.perf_counter()
            peaks = watch(folder, model, given.queries * given.depth, units, given.threads)
            runs.append((units, time.perf_counter() - started, peaks))
    console.print(f"unit     one shard, {given.queries} queries x {given.depth} candidates, {given.unit_mb} MB of text")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("units", "text", "seconds", "driver", "driver, unshared", "object store", "largest worker"):
        table.add_column(name, justify="right")
    for units, seconds, peaks in runs:
        sizes = [f"{getattr(peaks, field.name) / MB:.0f} MB" for field in fields(peaks)]
        table.add_row(str(units), f"{units * given.unit_mb} MB", f"{seconds:.0f}", *sizes)
    first, last = runs[0][2], runs[-1][2]
    ratios = [f"{getattr(last, field.name) / max(getattr(first, field.name), 1):.2f}" for field in fields(last)]
    table.add_row("ratio", f"{runs[-1][0] / runs[0][0]:.2f}", "", *ratios)
    console.print(table)


def arguments() -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--units", type=int, nargs="+", default=[10, 100], help="how many, one run each")
    parser.add_argument("--unit-mb", type=int, default=6, help="MB of text a unit")
    parser.add_argument("--queries", type=int, default=4, help="a unit")
    parser.add_argument("--depth", type=int, default=5, help="candidates a query")
    parser.add_argument("--threads", type=int, default=1, help="actors of one CPU each")
    return parser.parse_args()


def write_unit(path: Path, unit: int, queries: int, depth: int, size: int) -> None:
    """A shard of one row group with candidates of `size` bytes of text in all, all different.

    The words are few and long runs of letters, so that bytes are many and tokenising them is quick: what a passage
    costs in memory is its text, which travels from step to step, and not its tokens.
    """
    draw = random.Random(unit)
    each = size // (queries * depth)
    rows = []
    for query in range(queries):
        candidates = []
        for place in range(depth):
            words = " ".join(draw.choices(WORDS, k=20))
            rest = draw.randbytes((each - len(words)) // 2).hex()
            candidates.append({"doc_id": f"d{place}", "text": f"{words} {rest}", "score": float(-place)})
        rows.append({"query_id": f"q{unit}-{query}", "query": "how to water a cactus", "candidates": candidates})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=CANDIDATE_SCHEMA), path)


def watch(folder: Path, model: Path, unit_pairs: int, units: int, actors: int) -> Peaks:
    """Run the job and look at it until it ends.

    Raises:
        RuntimeError: the job failed, or worked on another number of units than was meant.
    """
    output = folder / "out"
    stages = f'[{{"scorer": {{"model": "{model}", "precision": "fp32"}}, "actors": {actors}}}]'
    job = ["rerank", "--input", str(folder / "in"), "--output", str(output), "--stages", stages]
    job += ["--unit-pairs", str(unit_pairs), "--include-text"]
    process = subprocess.Popen([sys.executable, "-m", "ray_rerank.jobs", *job], cwd=ROOT, start_new_session=True)
    peaks = Peaks()
    while process.poll() is None:
        peaks.see(look(process.pid))
        time.sleep(EVERY_S)
    done = len(list((output / "_run" / "done").glob("*.json")))
    if process.returncode or done != units:
        raise RuntimeError(f"the job ended with {process.returncode} after {done} of {units} units")
    return peaks


def look(driver: int) -> Peaks:
    """What the driver and the processes that it started hold now."""
    own = Peaks()
    own.driver, own.driver_own = _resident(driver)
    for child in _descendants(driver):
        name = _read(child, "cmdline").partition("\0")[0]
        if Path(name).name == "raylet":
            own.store = _store_pages(child)
        elif name.startswith("ray::"):
            own.worker = max(own.worker, _resident(child)[1])
    return own


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            after_name = _read(int(entry.name), "stat").rpartition(")")[2].split()
            if after_name:
                children.setdefault(int(after_name[1]), []).append(int(entry.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found[1:]


def _resident(process: int) -> tuple[int, int]:
    """Bytes of resident memory, and of its part that is not shared memory."""
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", _read(process, "status"), re.MULTILINE))
    return int(sizes.get("VmRSS", 0)) * 1024, (int(sizes.get("VmRSS", 0)) - int(sizes.get("RssShmem", 0))) * 1024


def _store_pages(raylet: int) -> int:
    """Bytes that the object store's files, deleted but mapped, have allocated."""
    pages: dict[int, int] = {}
    for link in Path(f"/proc/{raylet}/fd").glob("*"):
        try:
            if _PLASMA.search(str(link.readlink())):
                stat = link.stat()
                pages[stat.st_ino] = stat.st_blocks * 512
        except OSError:
            continue
    return sum(pages.values())


def _read(process: int, name: str) -> str:
    try:
        return Path(f"/proc/{process}/{name}").read_text(errors="replace")
    except OSError:
        return ""  # it has ended


if __name__ == "__main__":
    main()
