"""Teacher scores into labels: every teacher's own logits, their mean, raw or standardised, and the places they give."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_rerank.operators.arrow import list_sizes, one_array, parents, places, struct_array, to_lists
from ray_rerank.operators.candidates.schema import query_starts

_FIELDS = {
    "query_id": pa.string(),
    "query": pa.string(),
    "doc_id": pa.string(),
    "text": pa.string(),
    "score": pa.float32(),
    "rank": pa.int32(),
    "label": pa.float32(),
    "source": pa.string(),
}


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and sum of squared deviations of one teacher's logits.

    Parts are put together as Chan, Golub and LeVeque (1979, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances") do, which does not lose digits where the mean is large against the deviation.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray) -> "Moments":
        """Of float values of n. Equal values have a sum of squares of exactly 0."""
        if not len(values):
            return cls()
        apart = values.astype(np.float64) - float(values[0])
        mean = float(apart.mean())
        return cls(len(values), float(values[0]) + mean, float(np.square(apart - mean).sum()))

    def merge(self, other: "Moments") -> "Moments":
        """Of both sets of values together."""
        count = self.count + other.count
        if not self.count or not other.count:
            return self if self.count else other
        apart = other.mean - self.mean
        mean = self.mean + apart * other.count / count
        squares = self.squares + other.squares + apart * apart * self.count * other.count / count
        return Moments(count, mean, squares)

    @property
    def deviation(self) -> float:
        """The standard deviation over all values, sqrt(squares / count)."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0


def pool_moments(parts: Iterable[Sequence[Moments]], teachers: int) -> list[Moments]:
    """Each teacher's moments over all parts, which hold one a teacher."""
    totals = [Moments()] * teachers
    for part in parts:
        totals = [total.merge(own) for total, own in zip(totals, part, strict=True)]
    return totals


def teacher_column(number: int) -> str:
    """The column of one teacher's own logits, from 1."""
    return f"teacher_{number}"


def keep_teacher(table: pa.Table, number: int) -> pa.Table:
    """Candidates as a stage left them, the score also kept as that of teacher `number`."""
    candidates = one_array(table["candidates"])
    structs = candidates.flatten()
    members = {field.name: structs.field(field.name) for field in structs.type}
    members[teacher_column(number)] = members["score"]
    lists = to_lists(list_sizes(candidates), struct_array(members))
    return table.set_column(table.schema.get_field_index("candidates"), "candidates", lists)


def unlabelled(table: pa.Table, teachers: int) -> pa.Table:
    """Candidates that all teachers scored, a row a pair, in first-stage order: score and rank are null.

    Args:
        table: one row a query; `candidates` have the fields of CARRIED and `teacher_1` to `teacher_N`.
        teachers: N.

    Returns:
        `query_id, query, doc_id, text, score: float32, rank: int32, label: float32, source, first_stage_rank: int32,
        teacher_1: float32, …`.
    """
    candidates = one_array(table["candidates"])
    parent, structs = parents(list_sizes(candidates)), candidates.flatten()
    order = np.lexsort((structs.field("first_stage_rank").to_numpy(), parent))
    columns = {name: table[name].take(parent[order]) for name in ("query_id", "query")}
    columns |= {name: structs.field(name).take(pa.array(order)) for name in ("doc_id", "text", "label", "source")}
    columns |= {name: pa.nulls(len(order), _FIELDS[name]) for name in ("score", "rank")}
    own = ["first_stage_rank", *(teacher_column(number) for number in range(1, teachers + 1))]
    return pa.table(
        {name: columns[name] for name in _FIELDS} | {name: structs.field(name).take(pa.array(order)) for name in own}
    )


def moments(rows: pa.Table, teachers: int) -> list[Moments]:
    """Each teacher's, over these pairs."""
    return [Moments.of(rows[teacher_column(number)].to_numpy()) for number in range(1, teachers + 1)]


def set_scores(rows: pa.Table, weights: Sequence[float], scales: Sequence[Moments] | None = None) -> pa.Table:
    """Set score and rank, and put every query's pairs in order of falling score.

    With s_i the logit of teacher i, w_i its weight, m_i and d_i the mean and the standard deviation (over all labelled
    pairs, n in the denominator) of its logits, the score is

        mean:          sum_i w_i s_i / sum_i w_i
        standardised:  sum_i w_i (s_i - m_i) / d_i / sum_i w_i

    computed in float64. A teacher that gives all pairs the same logit (d_i = 0) adds 0. Ties break by first-stage rank,
    then doc_id.

    Args:
        rows: as `unlabelled` gives them, or as labelled before.
        weights: one a teacher, positive.
        scales: the moments to standardise by; None takes the logits as they are.
    """
    share = np.asarray(weights, np.float64) / np.sum(weights)
    score = np.zeros(rows.num_rows, np.float64)
    for number, weight in enumerate(share, start=1):
        own = rows[teacher_column(number)].to_numpy().astype(np.float64)
        if scales is not None:
            scale = scales[number - 1]
            own = (own - scale.mean) / scale.deviation if scale.deviation else np.zeros_like(own)
        score += weight * own
    query = np.cumsum(query_starts(one_array(rows["query_id"])))
    rows = rows.set_column(rows.schema.get_field_index("score"), "score", pa.array(score, pa.float32()))
    keys = rows.select(["score", "first_stage_rank", "doc_id"]).append_column("query", pa.array(query))
    directions = [("query", "ascending"), ("score", "descending"), ("first_stage_rank", "ascending")]
    rows = rows.take(pc.sort_indices(keys, sort_keys=[*directions, ("doc_id", "ascending")]))
    rank = places(np.bincount(query)[1:]) + 1
    return rows.set_column(rows.schema.get_field_index("rank"), "rank", pa.array(rank, pa.int32()))


def as_written(rows: pa.Table, include_text: bool, own_scores: bool) -> pa.Table:
    """The columns that are written: without the texts, or without each teacher's own, where these are not asked for."""
    texts = () if include_text else ("query", "text")
    return rows.select([name for name in rows.column_names if (own_scores or name in _FIELDS) and name not in texts])
