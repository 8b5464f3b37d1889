"""What a training is measured on: held-out labelled pairs, or candidates with judgements, and which figure decides."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ray_rerank.operators.arrow import list_sizes, one_array, parents
from ray_rerank.operators.candidates.read import read_candidates
from ray_rerank.operators.candidates.schema import Columns, Origin
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.evaluation.measures import evaluate, parse_measures
from ray_rerank.operators.formats.qrels import Grades
from ray_rerank.operators.formats.trec_runs import RankedList
from ray_rerank.operators.rejects import Report
from ray_rerank.operators.training.agreement import agreement
from ray_rerank.operators.training.leakage import Query
from ray_rerank.operators.training.losses import LossName

NDCG = "nDCG@10"


class HeldOut(Protocol):
    """Pairs to score, and what their scores are worth."""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(query, document) to score."""

    @property
    def decides(self) -> str:
        """The figure, the higher the better, that tells which weights are best."""

    def figures(self, scores: NDArray[np.float64]) -> dict[str, float | None]:
        """What raw logits, one a pair and in their order, come to; None where there is no such figure."""


@dataclass(frozen=True, slots=True)
class LabelledPairs:
    """A share of the training input: `table` is of `training_pairs.SCHEMA`.

    The share of same-query pairs in the labels' order decides: it reads every loss's logits alike, whatever
    their scale. Where no query has two different labels, the loss does, as `-loss`.
    """

    table: pa.Table
    loss: LossName

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.table["query"].to_pylist(), self.table["document"].to_pylist(), strict=True))

    @property
    def decides(self) -> str:
        distinct = self.table.group_by("query").aggregate([("label", "count_distinct")])
        return "ordered" if pc.max(distinct["label_count_distinct"]).as_py() > 1 else "-loss"

    def figures(self, scores: NDArray[np.float64]) -> dict[str, float | None]:
        _, queries = np.unique(self.table["query"].to_numpy(), return_inverse=True)
        labels = self.table["label"].to_numpy().astype(np.float64)
        found = asdict(agreement(labels, scores, queries.astype(np.int64), self.loss))
        return {name: value if math.isfinite(value) else None for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class JudgedCandidates:
    """Candidates and the judgements of their queries; nDCG@10 decides, ties broken by first-stage rank.

    `table` has a row a candidate: `query_id, query, doc_id, text, first_stage_rank`.
    """

    table: pa.Table
    grades: Grades

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.table["query"].to_pylist(), self.table["text"].to_pylist(), strict=True))

    @property
    def decides(self) -> str:
        return NDCG

    def figures(self, scores: NDArray[np.float64]) -> dict[str, float | None]:
        ids, owners = np.unique(self.table["query_id"].to_numpy(), return_inverse=True)
        order = np.lexsort((self.table["first_stage_rank"].to_numpy(), -scores, owners))
        documents = self.table["doc_id"].to_numpy()
        run = {}
        for rows in np.split(order, np.flatnonzero(np.diff(owners[order])) + 1):
            ranked = RankedList(documents[rows].tolist(), scores[rows], np.zeros(len(rows), np.int64))
            run[str(ids[owners[rows[0]]])] = ranked
        return {NDCG: evaluate(run, self.grades, parse_measures(NDCG)).means[NDCG]}

    def queries(self) -> list[Query]:
        """Each query once."""
        distinct = self.table.group_by(["query_id", "query"]).aggregate([])
        return [Query(row["query_id"], row["query"]) for row in distinct.to_pylist()]


def judged_candidates(
    tables: Iterable[tuple[str, pa.Table]], grades: Grades, name: str, report: Report
) -> JudgedCandidates:
    """Put candidate shards (nested or flat) and judgements together; queries without both do not count.

    Args:
        name: what messages call all of the tables.
        report: receives notes on rows that cannot be used, and on repeated query_ids; both are left out.

    Raises:
        InputError: a file is no candidate shard, or no query is judged.
    """
    flat = []
    seen: set[str] = set()
    for file, table in tables:
        ranked, rejects = read_candidates(table, Columns(), Origin(file))
        if rejects.num_rows:
            first = rejects.slice(0, 1).to_pylist()[0]["reason"]
            report.notes.append(f"left out of {file}: {rejects.num_rows} rows or candidates, the first: {first}")
        fresh = []
        for query_id in ranked["query_id"].to_pylist():
            fresh.append(query_id not in seen)
            seen.add(query_id)
        if again := fresh.count(False):
            report.notes.append(f"left out of {file}: {again} rows whose query_id stood before")
            ranked = ranked.filter(pa.array(fresh))
        candidates = one_array(ranked["candidates"])
        inner, owners = pa.Table.from_struct_array(candidates.flatten()), parents(list_sizes(candidates))
        flat.append(
            pa.table(
                {
                    "query_id": ranked["query_id"].take(owners),
                    "query": ranked["query"].take(owners),
                    **{field: inner[field] for field in ("doc_id", "text", "first_stage_rank")},
                }
            )
        )
    table = pa.concat_tables(flat).combine_chunks()
    ids = set(table["query_id"].to_pylist())
    both = {query_id: each for query_id, each in grades.items() if query_id in ids}
    if not both:
        raise InputError(f"{name}: none of its {len(ids)} queries is judged")
    return JudgedCandidates(table.filter(pc.is_in(table["query_id"], value_set=pa.array(list(both)))), both)
