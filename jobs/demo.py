"""Re-rank the starter collection with the model that ships inside: prepare, rerank, evaluate, show."""

import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads
from pydantic import Field

from ray_rerank.cluster.executors import ExecutorName
from ray_rerank.jobs import evaluate, prepare, rerank
from ray_rerank.jobs.config import JobConfig
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.inputs.collections import load_qrels
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.qrels import Grades
from ray_rerank.operators.location import Location

STARTER = Path(str(resources.files("ray_rerank.jobs"))) / "starter"
_SHOWN = 5


class Config(JobConfig):
    """Show on a small collection what re-ranking does."""

    output: Location = Field("work/demo", description="folder for candidates and results")
    model: Location = Field(str(STARTER / "model"), description="the cross-encoder")
    depth: int = Field(50, ge=1, description="BM25 candidates a question; judgements are complete down to 50")
    executor: ExecutorName = Field("ray", description="`inline` scores in this process, without Ray; default: ray")


def run(config: Config) -> int:
    """Run the three jobs on the starter collection and show the difference.

    Raises:
        UserError, ClusterError: as the jobs do.
    """
    started = time.time()
    folder = Path(config.output)
    queries, passages = str(STARTER / "queries.tsv"), str(STARTER / "passages.tsv")
    print("1. candidates by BM25\n")
    candidates = str(folder / "candidates")
    asked = prepare.Config(queries=queries, passages=passages, bm25=config.depth, output=candidates)
    done = prepare.run(asked)
    if done != ExitCode.DONE:
        raise InputError(f"the starter collection at {STARTER} did not prepare cleanly")
    print(
        "\n2. re-ranked "
        + ("in this process" if config.executor == "inline" else "through Ray Data by an actor pool")
        + "\n"
    )
    ranking = str(folder / "reranked")
    done = rerank.run(
        rerank.Config(input=candidates, output=ranking, model=config.model, include_text=True, executor=config.executor)
    )
    if done != ExitCode.DONE:
        return done
    print("\n3. evaluated against judgements\n")
    qrels = str(STARTER / "qrels.txt")
    metrics = str(folder / "metrics.json")
    evaluate.run(evaluate.Config(ranking=ranking, qrels=qrels, measures="MRR@10 nDCG@10", json=metrics))
    print(f"\n4. {_SHOWN} questions before and after, best passage first\n")
    _show_questions(ranking, qrels)
    print(f"candidates  {candidates}/*.parquet")
    print(f"ranking     {ranking}/part-*.parquet")
    print(f"report      {ranking}/_run/report.json")
    print(f"measures    {metrics}")
    print(f"the demo took {time.time() - started:.0f} s")
    return ExitCode.DONE


def _show_questions(ranking: str, judgements: str) -> None:
    """Questions at even steps of what re-ranking gained, losses included: not the best of them."""
    grades = load_qrels(judgements).grades
    rows = pads.dataset(ranking).to_table().to_pylist()
    gains = [_first_answer(row, grades, "first_stage_rank") - _first_answer(row, grades, "rank") for row in rows]
    by_gain = np.argsort(np.array(gains), kind="stable")
    for index in by_gain[np.linspace(0, len(rows) - 1, _SHOWN).astype(int)][::-1]:
        row = rows[index]
        places = [_first_answer(row, grades, name) for name in ("first_stage_rank", "rank")]
        print(f"{row['query']}?  first answer at {places[0]} by BM25, at {places[1]} re-ranked")
        for name, order in (("BM25     ", "first_stage_rank"), ("re-ranked", "rank")):
            best = min(row["ranking"], key=lambda candidate: candidate[order])
            grade = grades[row["query_id"]].get(best["doc_id"], 0)
            print(f"  {name} [grade {grade}] {best['text'][:100]}…")
        print()


def _first_answer(row: dict[str, Any], grades: Grades, order: str) -> int:
    """The place of the first candidate that is judged an answer; one past the end where none is."""
    by_document = grades.get(row["query_id"], {})
    places = [candidate[order] for candidate in row["ranking"] if by_document.get(candidate["doc_id"], 0) > 0]
    return min(places, default=len(row["ranking"]) + 1)
