"""The pairs of one unit, one row a pair, as jobs need them that score nothing."""

from typing import Any

import pyarrow as pa

from ray_rerank.cluster.units import Unit, read_rows
from ray_rerank.jobs.scoring.input import CandidateInput
from ray_rerank.operators.arrow import list_sizes, one_array, parents
from ray_rerank.operators.candidates.read import read_candidates
from ray_rerank.operators.candidates.schema import Columns, Origin


def unit_pairs(unit: Unit, given: CandidateInput, columns: Columns) -> pa.Table:
    """Read a unit: query_id, query, doc_id, text. Candidates that cannot be ranked are left out.

    Raises:
        StorageError: its file cannot be read.
    """
    table = read_rows(unit, given.columns[unit.file])
    whole, _ = read_candidates(table, columns, Origin(unit.file, unit.start), ())
    candidates = one_array(whole["candidates"])
    parent, structs = parents(list_sizes(candidates)), candidates.flatten()
    pairs: dict[str, Any] = {name: whole[name].take(parent) for name in ("query_id", "query")}
    return pa.table(pairs | {name: structs.field(name) for name in ("doc_id", "text")})


def text_pairs(pairs: pa.Table) -> list[tuple[str, ...]]:
    """(query, text) of each pair, as a pointwise scorer reads them."""
    return list(zip(pairs["query"].to_pylist(), pairs["text"].to_pylist(), strict=True))
