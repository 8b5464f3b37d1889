"""Training pairs held out by query."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ray_rerank.operators.candidates.same_text import normalised
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.training.leakage import Query


def split_by_query(table: pa.Table, fraction: float, seed: int) -> tuple[pa.Table, pa.Table]:
    """Split pairs into (training, held out) so that no query is on both sides, not even spelled a little otherwise.

    Rows with the same id or the same text (as `same_text.normalised` has it) are of one query, also where only other
    rows link them. `fraction` of the queries, drawn from `seed`, are held out: at least one where the fraction is
    above zero, never all of them.

    Args:
        table: of SCHEMA.

    Raises:
        InputError: a held-out part is asked for and there is only one query.
    """
    if fraction <= 0:
        return table, table.slice(0, 0)
    owners = _owners(table)
    found = np.unique(owners)
    if len(found) < 2:
        raise InputError("there is only one query: nothing can be held out; use more queries or `held_out: 0`")
    many = min(len(found) - 1, max(1, round(fraction * len(found))))
    drawn = np.random.default_rng(seed).choice(len(found), many, replace=False)
    held_out = np.isin(owners, found[drawn])
    return table.filter(pa.array(~held_out)), table.filter(pa.array(held_out))


def queries(table: pa.Table) -> list[Query]:
    """Each query of a table of SCHEMA once."""
    distinct = table.group_by(["query_id", "query"]).aggregate([])
    return [Query(row["query_id"], row["query"]) for row in distinct.to_pylist()]


def _owners(table: pa.Table) -> NDArray[np.int32]:
    """int32 of the rows: which query each is of, whatever the order of the rows."""
    texts = table["query"].dictionary_encode().unify_dictionaries().combine_chunks()
    _, spelled = np.unique([normalised(text) for text in texts.dictionary.to_pylist()], return_inverse=True)
    text = spelled[texts.indices.to_numpy()]
    ids = table["query_id"].dictionary_encode().unify_dictionaries().combine_chunks().indices
    known = ids.is_valid().to_numpy(zero_copy_only=False)
    linked = ids.drop_null().to_numpy() + len(spelled)  # nodes of a graph: the texts, then the ids
    links = coo_array((np.ones(len(linked)), (text[known], linked)), shape=(len(spelled) + table.num_rows,) * 2)
    _, parts = connected_components(links, directed=False)
    return np.asarray(parts[text], np.int32)
