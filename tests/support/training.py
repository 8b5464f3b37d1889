"""Labelled pairs to train on, and the job that does."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from support.command import execute

TOPICS = ("apple", "river", "engine", "violin", "winter", "castle", "pepper", "harbour")
FILLERS = ("the", "a", "very", "old", "new", "big", "small", "red", "green", "near")


def pairs(count: int, low: float = 0.0, high: float = 1.0) -> pa.Table:
    """Pairs, four a query, whose label is `high` where the document names one of the first four topics."""
    draw = np.random.default_rng(3)
    rows = []
    for number in range(count):
        right = number % 2 == 0
        topic = draw.choice(TOPICS[:4] if right else TOPICS[4:])
        words = [*draw.choice(FILLERS, int(draw.integers(2, 12))), topic, topic]
        rows.append(
            {
                "query": " ".join((FILLERS[number // 4 % 10], FILLERS[number // 40 % 10], TOPICS[number // 400])),
                "document": " ".join(draw.permutation(words)),
                "label": high if right else low,
            }
        )
    return pa.Table.from_pylist(rows)


def write_pairs(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path)
    return path


def train(source: Path, checkpoint: Path, output: Path, *flags: str) -> int:
    named = ["--input", str(source), "--model", str(checkpoint), "--output", str(output)]
    return execute(["train", *named, "--threads", "1", *flags])
