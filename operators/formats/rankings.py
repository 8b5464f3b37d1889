"""Rankings out of Parquet: what rerank wrote, or candidate shards, as runs that can be measured."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from ray_rerank.operators.arrow import bounds, list_sizes, one_array, places, struct_array, to_lists
from ray_rerank.operators.errors import InputError, listed
from ray_rerank.operators.formats.trec_runs import RankedList, Run

COLUMNS = ("ranking", "candidates")


@dataclass(slots=True)
class Rankings:
    """Runs gathered from the tables of a ranking.

    Attributes:
        run: the order that is measured.
        first_stage: the same documents in first-stage order; empty where the tables do not tell it.
        incomplete: queries whose first stage had more documents than the ranking holds.
        notes: what is to be told of how they were read.
    """

    run: Run = field(default_factory=dict)
    first_stage: Run = field(default_factory=dict)
    incomplete: int = 0
    notes: tuple[str, ...] = ()


def ranking_column(schema: pa.Schema, file: str) -> str:
    """`ranking` for what rerank writes, `candidates` for candidate shards.

    Raises:
        InputError: the file has neither, or not as a list of structs with what it takes.
    """
    found = [name for name in COLUMNS if name in schema.names]
    if not found or "query_id" not in schema.names:
        raise InputError(f"{file}: is no ranking: it has the columns {listed(schema.names)}, not query_id and ranking")
    kind = schema.field(found[0]).type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    names = [member.name for member in kind.value_type] if is_list and pa.types.is_struct(kind.value_type) else []
    needed = ["doc_id", "rank"] if found[0] == "ranking" else ["doc_id"]
    if missing := [name for name in needed if name not in names]:
        raise InputError(f"{file}: column {found[0]} is {listed([kind])}: it has no {', '.join(missing)}")
    return found[0]


def read_rankings(tables: Iterable[tuple[str, pa.Table]]) -> Rankings:
    """Gather (file, table) pairs; documents stand by `rank`, candidates by falling `score` where all have one, ties
    and others in the order of the list, as a first stage is read for re-ranking.

    The first stage is read off `first_stage_rank`, so that equal scores do not change its order.

    Raises:
        InputError: a query_id occurs twice (naming both files), a query_id or doc_id is null, a document or a
            rank occurs twice in a query, or there is no query.
    """
    rankings = Rankings()
    origin: dict[str, str] = {}
    for file, table in tables:
        column = ranking_column(table.schema, file)
        try:
            query_ids = table["query_id"].cast(pa.string()).to_pylist()
            contents = list(_members(table[column]))
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise InputError(f"{file}: its query_id or {column} cannot be read: {error}") from None
        for query_id, content in zip(query_ids, contents, strict=True):
            if query_id is None:
                raise InputError(f"{file}: a query_id is null")
            if query_id in origin:
                raise InputError(f"query {query_id!r} occurs twice: in {origin[query_id]} and in {file}")
            origin[query_id] = file
            _add(rankings, query_id, content, column, file)
    if not rankings.run:
        raise InputError("the ranking holds no query")
    return rankings


def _members(column: pa.ChunkedArray) -> Iterator[dict[str, Any]]:
    """Each row's list as columns: doc_id as Python strings, the numbers as numpy."""
    for chunk in column.chunks:
        structs = chunk.flatten()
        names = [member.name for member in structs.type]
        doc_ids = structs.field("doc_id").cast(pa.string()).to_pylist()
        numbers = {
            name: structs.field(name).to_numpy(zero_copy_only=False).astype(np.float64)
            for name in ("rank", "first_stage_rank", "score")
            if name in names
        }
        for start, stop in pairwise(bounds(list_sizes(chunk)).tolist()):
            yield {"doc_id": doc_ids[start:stop]} | {key: value[start:stop] for key, value in numbers.items()}


def _add(rankings: Rankings, query_id: str, content: dict[str, Any], column: str, file: str) -> None:
    doc_ids = content["doc_id"]
    if None in doc_ids:
        raise InputError(f"{file}: query {query_id!r}: a doc_id is null")
    if len(set(doc_ids)) < len(doc_ids):
        raise InputError(f"{file}: query {query_id!r}: a doc_id occurs twice")
    if column == "candidates":
        scores = content.get("score", np.full(len(doc_ids), np.nan))
        rankings.run[query_id] = _ranked(doc_ids, -scores if np.isfinite(scores).all() else np.arange(len(doc_ids)))
        return
    rankings.run[query_id] = _ranked(doc_ids, _distinct(content["rank"], "rank", query_id, file))
    if "first_stage_rank" in content:
        ranks = _distinct(content["first_stage_rank"], "first_stage_rank", query_id, file)
        rankings.first_stage[query_id] = _ranked(doc_ids, ranks)
        rankings.incomplete += bool(len(ranks)) and bool(ranks.max() - ranks.min() + 1 > len(ranks))


def _distinct(ranks: np.ndarray, name: str, query_id: str, file: str) -> np.ndarray:
    if np.isnan(ranks).any() or len(np.unique(ranks)) < len(ranks):
        raise InputError(f"{file}: query {query_id!r}: a {name} is null or occurs twice")
    return ranks


def _ranked(doc_ids: list[str], ranks: np.ndarray) -> RankedList:
    order = np.argsort(ranks, kind="stable").tolist()
    nothing = np.full(len(order), np.nan)
    return RankedList([doc_ids[i] for i in order], nothing, np.zeros(len(order), dtype=np.int64))


def to_ranking(table: pa.Table, include_text: bool, extra: tuple[str, ...] = ()) -> pa.Table:
    """The ranking as it is written: one row a query, `query_id[, query][, extra], ranking: list<struct<doc_id,
    rank: int32 from 1, score: float32 raw logit, first_stage_rank: int32, first_stage_score: float32,
    stage: int32[, text]>>`.
    """
    candidates = one_array(table["candidates"])
    sizes, structs = list_sizes(candidates), candidates.flatten()
    rank = places(sizes) + 1
    names = ["doc_id", "rank", "score", "first_stage_rank", "first_stage_score", "stage"]
    names += ["text"] if include_text else []
    fields = {name: pa.array(rank, pa.int32()) if name == "rank" else structs.field(name) for name in names}
    content = {"query_id": table["query_id"]} | ({"query": table["query"]} if include_text else {})
    content |= {name: table[name] for name in extra}
    return pa.table(content | {"ranking": to_lists(sizes, struct_array(fields))})
