"""Training rows of a query put together as its loss reads them: pairs, triplets or lists."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_rerank.operators.arrow import bounds, one_array, to_lists
from ray_rerank.operators.training.losses import TrainingLoss

HIGHEST_GRADE = 10  # LambdaLoss' gain is 2^label - 1: a teacher's 30 leaves one document to learn, 128 is no float32


@dataclass(frozen=True, slots=True)
class Groups:
    """Row numbers of a table of pairs, group by group.

    Attributes:
        rows: int64, the groups one after the other; in a triplet the positive stands first.
        starts: int64 of (groups + 1), where each begins in `rows`.
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1


def group_rows(pairs: pa.Table, loss: TrainingLoss, size: int, seed: int) -> Groups:
    """Deal the rows of each query into groups.

    Pairs: each row alone. Otherwise the *positives* of a query are its rows with the highest `relevant`, where
    that is known and not the same for all; else its one row with the highest label (the first of several).

    Triplets: positives and the other rows side by side, each side shuffled by `seed` and the shorter one over
    again, so that every row is there and none of the longer side twice.

    Lists: one positive drawn from `seed` stands in every list of its query, all other rows in one, shuffled
    and dealt out evenly over as few lists of at most `size` rows as they need.

    A query with one row, or with equal labels alone, makes no group.

    Args:
        pairs: `query, label` and `relevant` (null where unknown).
        size: the longest list, at least 2.
    """
    if loss.reads == "pair":
        return Groups(np.arange(pairs.num_rows), np.arange(pairs.num_rows + 1))
    labels = pairs["label"].to_numpy()
    relevant = pairs["relevant"].to_numpy()
    groups: list[NDArray[np.int64]] = []
    draw = np.random.default_rng(seed)
    for rows in _rows_by_query(pairs):
        if len(rows) < 2 or np.ptp(labels[rows]) == 0:
            continue
        positives = _positives(labels[rows], relevant[rows])
        best, others = rows[positives], rows[~positives]
        if loss.reads == "triplet":
            many = max(len(best), len(others))
            sides = [np.resize(draw.permutation(side), many) for side in (best, others)]
            groups += list(np.stack(sides, axis=1))
            continue
        chosen = draw.choice(best)
        others = draw.permutation(rows[rows != chosen])
        lists = -(-len(others) // (size - 1))
        groups += [np.concatenate([[chosen], part]) for part in np.array_split(others, lists)]
    lengths = np.array([len(group) for group in groups], dtype=np.int64)
    return Groups(np.concatenate(groups) if groups else np.zeros(0, np.int64), bounds(lengths))


def group_table(pairs: pa.Table, groups: Groups, loss: TrainingLoss) -> pa.Table:
    """The groups as sentence-transformers' loss reads them.

    Returns:
        Pairs: `query, document, label`. Triplets: `query, positive, negative, label`, the label being the margin.
        Lists: `query, documents: list<string>, label: list<float>`; for a loss over gains whose labels
        go below zero or beyond HIGHEST_GRADE, so are no grades, each list's are moved and scaled to run from 0 to 1.
    """
    if loss.reads == "pair":
        return pairs.select(["query", "document", "label"])
    labels = pairs["label"].to_numpy()
    documents = one_array(pairs["document"])
    first = groups.rows[groups.starts[:-1]]
    if loss.reads == "triplet":
        second = groups.rows[groups.starts[:-1] + 1]
        return pa.table(
            {
                "query": pairs["query"].take(first),
                "positive": documents.take(pa.array(first)),
                "negative": documents.take(pa.array(second)),
                "label": pa.array(labels[first] - labels[second], pa.float32()),
            }
        )
    taken = labels[groups.rows]
    if loss.gains and (labels.min() < 0 or labels.max() > HIGHEST_GRADE):
        taken = _scaled(taken, groups.starts)
    sizes = np.diff(groups.starts)
    return pa.table(
        {
            "query": pairs["query"].take(first),
            "documents": to_lists(sizes, documents.take(pa.array(groups.rows))),
            "label": to_lists(sizes, pa.array(taken, pa.float32())),
        }
    )


def _rows_by_query(pairs: pa.Table) -> list[NDArray[np.int64]]:
    _, owners = np.unique(pairs["query"].to_numpy(), return_inverse=True)
    order = np.argsort(owners, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(owners[order])) + 1)


def _positives(labels: NDArray[np.float32], relevant: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows of one query are positive, never all of them."""
    if np.isfinite(relevant).all() and np.ptp(relevant) > 0:
        return np.asarray(relevant == relevant.max())
    chosen = np.zeros(len(labels), np.bool_)
    chosen[int(np.argmax(labels))] = True
    return chosen


def _scaled(labels: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    scaled = np.empty_like(labels)
    for start, end in pairwise(starts.tolist()):
        part = labels[start:end]
        reach = np.ptp(part)
        scaled[start:end] = (part - part.min()) / reach if reach else 0
    return scaled
