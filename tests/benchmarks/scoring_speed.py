"""Pairs a second of our cross-encoder beside sentence-transformers' `predict`, on the same pairs in one run.

    PYTHONPATH=tests python tests/benchmarks/scoring_speed.py --pairs 600 --rounds 5 --precisions fp32 bf16

The two sides take turns for several rounds, and each ratio is of one round, so that a machine whose speed drifts
slows both. Both tokenise inside what is timed. More pairs pad less on our side: the sort is over all of them.
"""

import argparse
import contextlib
import io
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads
import torch
from rich.console import Console
from rich.table import Table
from sentence_transformers import CrossEncoder
from transformers.utils import logging as transformers_logging

from ray_rerank.jobs import prepare
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.models.device import cpu_has_bf16, pick_device
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from support.models import write_cross_encoder
from support.paths import SHARED, STARTER

DEPTH = 25
"""Candidates of each query: few, so that a short run has pairs of several queries."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
THEIRS, OURS = "CrossEncoder.predict(batch_size=32)", "ray-rerank"
Pair = tuple[str, str]


@dataclass(slots=True)
class Side:
    """What was measured of one side: seconds of each round, and tokens of one pass over the pairs."""

    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    padded_tokens: int = 0
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))

    @property
    def padding_share(self) -> float:
        """The part of the model's input that was padding, 0 to 1."""
        return 1 - self.tokens / self.padded_tokens


def main() -> None:
    """Choose pairs and model, measure every precision, print one table."""
    given = arguments()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(given.threads)
    console = Console(width=140, highlight=False)
    with tempfile.TemporaryDirectory() as scratch:
        model, what = chosen_model(given.model, Path(scratch))
        pairs, where = sampled_pairs(given.pairs, given.seed, Path(scratch))
        device = pick_device()
        console.print(f"pairs    {len(pairs)} of {where}, {DEPTH} a query, seed {given.seed}")
        console.print(f"model    {model} ({what})")
        console.print(
            f"machine  {device.type}, {given.threads} threads, torch {torch.__version__}; max_length ", end=""
        )
        console.print(f"{CrossEncoderConfig(model=model).reader().max_length}, {given.rounds} rounds")
        if "bf16" in given.precisions and device.type == "cpu" and not cpu_has_bf16():
            console.print("note     this CPU has no bf16 instructions and emulates them, many times slower than fp32;")
            console.print("         `precision: auto` takes fp32 here. bf16 is measured in one round")
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("precision")
        table.add_column("side")
        for name in ("pairs/s", "ratio", "ratio, lowest to highest", "padding", "largest |difference|"):
            table.add_column(name, justify="right")
        for precision in given.precisions:
            emulated = precision == "bf16" and device.type == "cpu" and not cpu_has_bf16()
            rounds = 1 if emulated else given.rounds
            add_rows(table, precision, len(pairs), *measure(model, precision, pairs, given.threads, rounds))
        console.print(table)


def arguments() -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=150, help=f"about how many pairs: whole queries of {DEPTH}")
    parser.add_argument("--precisions", nargs="+", choices=sorted(DTYPES), default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3, help="times that each side scores all pairs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads of both sides")
    parser.add_argument("--model", help="folder of a cross-encoder; default: the teacher, else the embedded one")
    parser.add_argument("--seed", type=int, default=0, help="of the queries drawn")
    return parser.parse_args()


def chosen_model(asked: str | None, scratch: Path) -> tuple[str, str]:
    """A model's folder, and in words which it is."""
    if asked:
        return asked, "as asked for"
    for folder, what in (
        (SHARED / "models" / "ms-marco-minilm-l12", "the 12-layer teacher"),
        (STARTER / "model", "the embedded model"),
    ):
        if (folder / "config.json").is_file():
            return str(folder), what
    small = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    return str(write_cross_encoder(scratch / "model", **small)), "small and random: no real one was found"


def sampled_pairs(count: int, seed: int, scratch: Path) -> tuple[list[Pair], str]:
    """Queries with their best `DEPTH` by BM25, drawn until there are `count` pairs, and where they are from."""
    dl20 = SHARED / "data" / "dl20"
    first_stage: dict[str, Any]
    if (dl20 / "run.bm25.trec").is_file():
        source, where, first_stage = dl20, "TREC DL 2020, BM25", {"run": str(dl20 / "run.bm25.trec"), "depth": DEPTH}
    else:
        source, where, first_stage = STARTER, "the starter collection, BM25", {"bm25": DEPTH}
    texts = {"queries": str(source / "queries.tsv"), "passages": str(source / "passages.tsv")}
    output = scratch / "candidates"
    with contextlib.redirect_stdout(io.StringIO()):
        prepare.run(prepare.Config(output=str(output), **texts, **first_stage))
    rows = pads.dataset(str(output)).to_table().to_pylist()
    random.Random(seed).shuffle(rows)
    pairs: list[Pair] = []
    for row in rows:
        if len(pairs) >= count:
            break
        pairs += [(row["query"], candidate["text"]) for candidate in row["candidates"]]
    return pairs, where


def measure(model: str, precision: Any, pairs: list[Pair], threads: int, rounds: int) -> tuple[Side, Side]:
    """Score all pairs with both sides, round by round, the one that goes first changing."""
    mine = CrossEncoderConfig(model=model, precision=precision).load(threads)
    them = CrossEncoder(
        model,
        device=pick_device().type,
        max_length=mine.config.reader().max_length,
        model_kwargs={"dtype": DTYPES[precision]},
    )
    ours, theirs = Side(), Side()

    def score_ours() -> None:
        work = ScoringStats()
        ours.scores = mine.score(pairs, work)
        ours.tokens, ours.padded_tokens = work.tokens, work.padded_tokens

    def score_theirs() -> None:
        theirs.tokens = theirs.padded_tokens = 0
        theirs.scores = them.predict(pairs, batch_size=32, activation_fn=torch.nn.Identity(), show_progress_bar=False)

    def count(_: Any, inputs: tuple[dict[str, torch.Tensor], ...]) -> None:
        mask = inputs[0]["attention_mask"]
        theirs.tokens += int(mask.sum())
        theirs.padded_tokens += mask.numel()

    mine.score(pairs[:4])
    them.predict(pairs[:4], show_progress_bar=False)
    # what their model is really handed, whatever their way of sorting (by characters of query and passage together)
    them[0].register_forward_pre_hook(count)
    turns = [(theirs, score_theirs), (ours, score_ours)]
    for _ in range(rounds):
        for side, score in turns:
            started = time.perf_counter()
            score()
            side.seconds.append(time.perf_counter() - started)
        turns.reverse()
    return theirs, ours


def add_rows(table: Table, precision: str, pairs: int, theirs: Side, ours: Side) -> None:
    """The two rows of one precision."""
    ratios = [their / our for their, our in zip(theirs.seconds, ours.seconds, strict=True)]
    difference = float(np.abs(theirs.scores - ours.scores).max())
    for name, side in ((THEIRS, theirs), (OURS, ours)):
        rate = f"{pairs / statistics.median(side.seconds):.1f}"
        own = (
            [f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"]
            if side is ours
            else ["", ""]
        )
        last = f"{difference:.1e}" if side is ours else ""
        table.add_row(precision, name, rate, *own, f"{side.padding_share:.1%}", last)


if __name__ == "__main__":
    main()
