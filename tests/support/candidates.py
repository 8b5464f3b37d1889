"""Candidates made up on the spot."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_rerank.operators.candidates.schema import CANDIDATE_SCHEMA

WORDS = """
how to water a cactus in winter the soil should dry out between two drinks because roots rot when
wet bread rises as yeast feeds on sugar and gives off gas cold dough slows it down warm rooms speed
it up stars shine by fusing hydrogen into helium what is a shard of data one worker reads alone
naturalisation
""".split()


def sentence(random_: random.Random, longest: int = 40) -> str:
    """Some words, of ragged length."""
    return " ".join(random_.choices(WORDS, k=random_.randint(1, longest)))


def rows(queries: int, depth: int, seed: int = 0) -> list[dict[str, Any]]:
    """Candidate rows with first-stage scores that fall."""
    random_ = random.Random(seed)
    return [
        {
            "query_id": f"q{number}",
            "query": sentence(random_, 8),
            "candidates": [
                {"doc_id": f"d{number}-{place}", "text": sentence(random_), "score": float(depth - place)}
                for place in range(depth)
            ],
        }
        for number in range(queries)
    ]


def write_candidates(path: Path, content: list[dict[str, Any]], row_group_size: int = 4) -> Path:
    """Write rows as one shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content, schema=CANDIDATE_SCHEMA), path, row_group_size=row_group_size)
    return path
