"""`ray-rerank mine`: hard negatives for queries and their positives, out of a corpus."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from cluster.storage import StoredFile, absolute, join
from jobs import prepared_folder
from jobs.collection_files import (
    beir_files,
    judged_queries,
    load_passages,
    load_qrels,
    load_queries,
    load_run,
    stored,
)
from jobs.config import JobConfig
from jobs.folder_report import report_folder
from jobs.guarding import teacher_scores
from jobs.vectors import embed
from operators.bm25 import bm25_run
from operators.collections import Passages
from operators.errors import InputError
from operators.exact_search import nearest
from operators.false_negatives import Guard, allowed
from operators.faults import Fault, FaultLog, Reason
from operators.judgements import Qrels
from operators.mined_shards import POSITIVE, MinedQuery, mined_shard
from operators.negative_sources import BiEncoderSource, BM25Source, RunSource, Source
from operators.negatives import NO_LIST, Negative, RankedRows, draw_negatives, text_keys
from operators.runs import Run

_COUNTED = ("queries", "positives", "negatives", "shards")


class Config(JobConfig):
    """Write each query's positives and drawn negatives, with texts, as flat shards for label, train or rerank."""

    queries: str | None = Field(None, description="TSV of id<TAB>text, or JSONL; plain or .gz")
    passages: str | None = Field(None, description="TSV of id<TAB>text, or JSONL; plain or .gz: the corpus")
    beir: str | None = Field(None, description="in place of both: a folder with corpus.jsonl and queries.jsonl")
    split: str | None = Field(None, description="BEIR: judgements are qrels/SPLIT.tsv; left open: test if it is there")
    qrels: str | None = Field(None, description="the positives; without them candidates are drawn, with no label")
    positive_grade: int = Field(1, ge=1, description="the lowest grade of a positive; judged relevant is no negative")
    positives: int | None = Field(None, ge=1, description="at most so many positives a query, highest grade first")
    sources: tuple[Source, ...] = Field((), description="[{kind: bm25|random|bi-encoder|run, count, ranks, draw, …}]")
    source: str | None = Field(None, description="short for one source: its kind")
    count: int = Field(4, ge=1, description="with `source`: negatives a query")
    ranks: str = Field("1-100", description="with `source`: the ranks to draw from")
    encoder: str | None = Field(None, description="with `source bi-encoder`: its model")
    run: str | None = Field(None, description="with `source run`: the TREC run")
    guard: Guard | None = Field(None, description="{scorer: {…}, absolute_margin, relative_margin, at_most, max_score}")
    cache: str | None = Field(None, description="score cache of the guard's teacher")
    vectors: str | None = Field(None, description="folder or URI of kept vectors; default: inside the output")
    seed: int = Field(0, ge=0, description="of every draw")
    shard_queries: int = Field(1000, ge=1, description="queries a shard")
    address: str | None = Field(None, description="Ray cluster for encoder and teacher; default: this machine")
    output: str = Field(description="folder of the shards")
    overwrite: bool = Field(False, description="replace the shards of another mine")

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("source"):
            return values
        if values.get("sources"):
            raise ValueError("give `source` or `sources`, not both")
        kind = values["source"]
        own = {"kind": kind, "count": values.get("count", 4)}
        own |= {} if kind == "random" else {"ranks": values.get("ranks", "1-100")}
        own |= {"bi-encoder": {"model": values.get("encoder")}, "run": {"path": values.get("run")}}.get(kind, {})
        return values | {"sources": [own]}

    @model_validator(mode="after")
    def _goes_together(self) -> "Config":
        if not self.sources:
            raise ValueError("there is nothing to draw from: give `sources` or `source`")
        if (self.beir is None) != (self.queries is not None and self.passages is not None):
            raise ValueError("queries and corpus come from `queries` and `passages`, or from `beir`")
        if self.split is not None and (self.beir is None or self.qrels is not None):
            raise ValueError("`split` chooses the judgements of a `beir` folder")
        return self


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is mined in."""

    passages: Passages
    doc_ids: list[str]
    keys: np.ndarray


@dataclass(frozen=True, slots=True)
class Asked:
    """One query: the rows of its positives, best grade first, and of all that is judged relevant."""

    query_id: str
    query: str
    positives: tuple[int, ...]
    relevant: tuple[int, ...]


def run(config: Config) -> int:
    """Read, list, draw, guard, write; a finished one is not done again.

    Raises:
        RerankError, ClusterError: something is wrong with what all queries share.
    """
    started = time.monotonic()
    paths, qrels_path = _paths(config)
    settings = config.model_dump(mode="json", exclude={"output", "overwrite", "vectors", "cache", "address"})
    claim = prepared_folder.claim(config.output, settings, _inputs(config, paths, qrels_path), config.overwrite, "mine")
    if claim.finished is not None:
        print(f"{config.output}: already mined from these files with these settings")
        return report_folder(config.output, claim.finished, _COUNTED, claim.errors)
    faults, notes = FaultLog(), list[str]()
    queries = load_queries(paths[0], faults)
    passages = load_passages(paths[1], faults)
    if not passages.row:
        raise InputError(f"{paths[1]}: holds no passage")
    keys = np.concatenate([text_keys(chunk) for chunk in _chunks(passages.texts)])
    corpus = Corpus(passages, list(passages.row), keys)
    qrels = load_qrels(qrels_path) if qrels_path else None
    if qrels is None and config.guard and config.guard.needs_positives:
        raise InputError("the guard's margins are relative to positives: give --qrels, or only max_score")
    asked = _asked(config, queries, qrels, corpus, paths[0], str(qrels_path), faults, notes)
    prepared_folder.begin(claim)
    lists = [_lists(config, source, asked, corpus, paths[0], claim.work, faults, notes) for source in config.sources]
    factor = config.guard.pool if config.guard else 1
    drawn = [
        draw_negatives(
            one.query_id,
            config.sources,
            [ranked.get(one.query_id, NO_LIST) for ranked in lists],
            one.relevant,
            corpus.keys,
            config.seed,
            factor,
        )
        for one in asked
    ]
    refused = 0
    if config.guard:
        pool = [_mined(config, one, negatives, qrels is not None) for one, negatives in zip(asked, drawn, strict=True)]
        scores = teacher_scores(
            join(absolute(claim.work), claim.identity[:16]),
            [mined_shard(part, corpus.doc_ids, passages.texts) for part in _parts(pool, config.shard_queries)],
            config.guard.scorer,
            config.cache,
            config.address,
        )
        drawn, refused = _guarded(config.guard, config.sources, asked, drawn, scores, corpus)
    mined = [_mined(config, one, negatives, qrels is not None) for one, negatives in zip(asked, drawn, strict=True)]
    mined = [query for query in mined if len(query.rows)]
    parts = _parts(mined, config.shard_queries)
    shards = [
        prepared_folder.write_shard(claim, number, len(parts), mined_shard(part, corpus.doc_ids, passages.texts))
        for number, part in enumerate(parts)
    ]
    by_source = Counter(source for query in mined for source in query.sources)
    positives = by_source.pop(POSITIVE, 0)
    wanted = sum(source.count for source in config.sources)
    if short := sum(len(negatives) < wanted for negatives in drawn):
        notes.append(f"{short} of {len(asked)} queries have fewer than {wanted} negatives: their ranks hold no more")
    notes += [f"negatives by source: {', '.join(f'{count:,} {kind}' for kind, count in by_source.items()) or 'none'}"]
    if config.guard:
        notes.append(f"{refused:,} drawn passages were refused by the guard")
    summary = {
        "shards": shards,
        "queries": len(mined),
        "positives": positives,
        "negatives": dict(by_source),
        "refused": refused,
        "left_out": {str(reason): count for reason, count in faults.counts.items()},
        "first": {str(reason): list(map(str, faults.first(reason))) for reason in faults.counts},
        "notes": notes,
        "seconds": round(time.monotonic() - started, 1),
    }
    prepared_folder.finish(claim, faults.table(), summary)
    return report_folder(config.output, summary, _COUNTED, claim.errors)


def _paths(config: Config) -> tuple[tuple[str, str], str | None]:
    """Queries and passages, and the judgements if any."""
    if config.beir is None:
        return (str(config.queries), str(config.passages)), config.qrels
    files = beir_files(config.beir, config.split)
    return (files.queries, files.passages), config.qrels or files.qrels


def _inputs(config: Config, paths: Sequence[str], qrels: str | None) -> list[StoredFile]:
    runs = [source.path for source in config.sources if isinstance(source, RunSource)]
    return [stored(path) for path in [*paths, *([qrels] if qrels else []), *runs]]


def _chunks(texts: pa.Array) -> list[list[str]]:
    return [texts[start : start + 4096].to_pylist() for start in range(0, len(texts), 4096)]


def _parts(mined: list[MinedQuery], size: int) -> list[list[MinedQuery]]:
    return [mined[start : start + size] for start in range(0, len(mined), size)]


def _asked(
    config: Config,
    queries: dict[str, str],
    qrels: Qrels | None,
    corpus: Corpus,
    queries_path: str,
    qrels_path: str,
    faults: FaultLog,
    notes: list[str],
) -> list[Asked]:
    if qrels is None:
        return [Asked(query_id, query, (), ()) for query_id, query in queries.items()]
    asked = []
    row = corpus.passages.row
    judged = judged_queries(queries, qrels, queries_path, qrels_path, notes)
    for query_id, query in judged.items():
        grades = sorted(qrels[query_id].items(), key=lambda item: -item[1])
        relevant = tuple(row[doc_id] for doc_id, grade in grades if grade >= 1 and doc_id in row)
        found = [doc_id for doc_id, grade in grades if grade >= config.positive_grade]
        for doc_id in found:
            if doc_id not in row:
                faults.add(
                    Fault(qrels_path, 0, Reason.UNKNOWN_DOC, f"the positive {doc_id!r} has no text", query_id, doc_id)
                )
        positives = _of_distinct_text([row[doc_id] for doc_id in found if doc_id in row], corpus.keys)
        if not positives:
            faults.add(Fault(queries_path, 0, Reason.NO_POSITIVE, f"query_id {query_id!r}", query_id))
            continue
        asked.append(Asked(query_id, query, positives[: config.positives], relevant))
    if not asked:
        documents = {doc_id for query_id in judged for doc_id in qrels[query_id]}
        raise InputError(
            f"none of the queries of {queries_path} has a positive in {qrels_path} that has a text: of the "
            f"{len(documents)} documents judged for them {sum(doc_id in row for doc_id in documents)} are in the corpus"
        )
    return asked


def _of_distinct_text(rows: list[int], keys: np.ndarray) -> tuple[int, ...]:
    first: dict[int, int] = {}
    for row in rows:
        first.setdefault(int(keys[row]), row)
    return tuple(first.values())


def _lists(
    config: Config,
    source: Source,
    asked: list[Asked],
    corpus: Corpus,
    queries_path: str,
    work: str,
    faults: FaultLog,
    notes: list[str],
) -> dict[str, RankedRows]:
    """The source's list of each query that has one."""
    texts = {one.query_id: one.query for one in asked}
    if isinstance(source, BM25Source):
        doc_ids = corpus.doc_ids
        run = bm25_run(texts, doc_ids, corpus.passages.texts, source.ranks[1], queries_path, faults)
        return _rows_of(run, corpus, "", FaultLog())
    if isinstance(source, RunSource):
        return _rows_of(load_run(source.path, faults, notes), corpus, source.path, faults)
    if isinstance(source, BiEncoderSource):
        folder = config.vectors or join(work, "vectors")
        documents = embed(corpus.passages.texts, "document", source.encoder, folder, config.address)
        asked_for = embed(
            pa.array(list(texts.values()), pa.large_string()), "query", source.encoder, folder, config.address
        )
        vectors = np.concatenate(list(asked_for.blocks()))
        rows, scores = nearest(vectors, documents.blocks(), source.ranks[1], documents.similarity)
        return {one: RankedRows(*pair) for one, *pair in zip(texts, rows, scores, strict=True)}
    return {}


def _rows_of(run: Run, corpus: Corpus, path: str, faults: FaultLog) -> dict[str, RankedRows]:
    """A run by rows of the corpus; a document without a text is left out, and the others keep their order."""
    lists = {}
    for query_id, ranked in run.items():
        rows = np.array([corpus.passages.row.get(doc_id, -1) for doc_id in ranked.doc_ids], np.int64)
        for at in np.flatnonzero(rows < 0).tolist():
            doc_id, line = ranked.doc_ids[at], int(ranked.lines[at])
            faults.add(Fault(path, line, Reason.UNKNOWN_DOC, "the passages have no text for it", query_id, doc_id))
        lists[query_id] = RankedRows(rows[rows >= 0], ranked.scores[rows >= 0].astype(np.float32))
    return lists


def _mined(config: Config, one: Asked, negatives: list[Negative], known: bool) -> MinedQuery:
    rows = np.array([*one.positives, *(negative.row for negative in negatives)], np.int64)
    scores = np.array([np.nan] * len(one.positives) + [negative.score for negative in negatives], np.float32)
    labels = np.array([1.0] * len(one.positives) + [0.0 if known else np.nan] * len(negatives), np.float32)
    kinds = [POSITIVE] * len(one.positives) + [config.sources[negative.source].kind for negative in negatives]
    return MinedQuery(one.query_id, one.query, rows, scores, labels, kinds)


def _guarded(
    guard: Guard,
    sources: Sequence[Source],
    asked: list[Asked],
    drawn: list[list[Negative]],
    scores: dict[tuple[str, str], float],
    corpus: Corpus,
) -> tuple[list[list[Negative]], int]:
    """The first of each source's draws that the guard allows, and how many it refused on the way to them."""
    kept, refused = [], 0
    for one, negatives in zip(asked, drawn, strict=True):
        found = np.array([scores.get((one.query_id, corpus.doc_ids[n.row]), np.nan) for n in negatives])
        positives = np.array([scores.get((one.query_id, corpus.doc_ids[row]), np.nan) for row in one.positives])
        fine = allowed(guard, found, positives)
        left = Counter({number: source.count for number, source in enumerate(sources)})
        own = []
        for negative, good in zip(negatives, fine.tolist(), strict=True):
            if left[negative.source] and not good:
                refused += 1
            elif left[negative.source]:
                left[negative.source] -= 1
                own.append(negative)
        kept.append(own)
    return kept, refused
