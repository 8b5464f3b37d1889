"""The same job twice on one cache: what scoring took cold and warm, and whether the rankings are the same bits.

    PYTHONPATH=tests python tests/benchmarks/cache_warm.py

TREC DL 2020 (BM25's best 100, 5,400 pairs) and MiniLM-L12 where they are beside the project, else the starter
collection and the model that ships inside.
"""

import json
import sys
import tempfile
from pathlib import Path

import pyarrow.dataset as pads
from rich.console import Console
from rich.table import Table

from ray_rerank.jobs.demo import STARTER
from ray_rerank.jobs.exit_codes import ExitCode
from support.command import execute
from support.paths import SHARED


def main() -> None:
    """Prepare, run cold, run warm, print."""
    data, teacher = SHARED / "data" / "dl20", SHARED / "models" / "ms-marco-minilm-l12"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if data.is_dir() and teacher.is_dir():
            texts = ["--queries", str(data / "queries.tsv"), "--passages", str(data / "passages.tsv")]
            source, model = ["--run", str(data / "run.bm25.trec"), *texts], teacher
        else:
            texts = ["--queries", str(STARTER / "queries.tsv"), "--passages", str(STARTER / "passages.tsv")]
            source, model = ["--bm25", "50", *texts], STARTER / "model"
        must(["prepare", *source, "--output", str(folder / "in")])
        shown = Table("run", "pairs", "evaluated", "from the cache", "scoring, actor-seconds", box=None)
        seconds, rows = [], []
        for name in ("cold", "warm"):
            job = ["rerank", "--input", str(folder / "in"), "--output", str(folder / name), "--model", str(model)]
            must([*job, "--cache", str(folder / "cache")])
            (work,) = json.loads((folder / name / "_run" / "report.json").read_text())["stages"]
            counts = [f"{work[field]:,}" for field in ("pairs", "evaluations", "cached")]
            shown.add_row(name, *counts, f"{work['seconds']:.2f}")
            seconds.append(work["seconds"])
            table = pads.dataset(str(folder / name)).to_table().to_pylist()
            rows.append(sorted(table, key=lambda row: str(row["query_id"])))
    shown.add_row("ratio", "", "", "", f"{seconds[0] / seconds[1]:.0f}x")
    Console(width=110, highlight=False).print(shown)
    print("the same bits" if rows[0] == rows[1] else "NOT the same bits")


def must(arguments: list[str]) -> None:
    """Run a job that must not fail."""
    code = execute(arguments)
    if code != ExitCode.DONE:
        sys.exit(f"{arguments[0]} ended with {code}")


if __name__ == "__main__":
    main()
