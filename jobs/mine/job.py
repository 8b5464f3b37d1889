"""`ray-rerank mine`: hard negatives for queries and their positives, out of a corpus."""

import json
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from ray_rerank.cluster.lease import held
from ray_rerank.cluster.storage import StoredFile, absolute, fingerprint, join
from ray_rerank.jobs.inputs.collections import TextFiles, beir_files, describe_file, load_qrels, load_queries
from ray_rerank.jobs.mine.corpus import Corpus, JudgedQuery, find_positives, load_corpus
from ray_rerank.jobs.mine.guard_scores import PoolScores, teacher_scores
from ray_rerank.jobs.mine.lists import ranked_lists
from ray_rerank.jobs.mine.vectors import VectorStore
from ray_rerank.jobs.outputs import shards as prepared_folder
from ray_rerank.jobs.outputs.checks import check_apart
from ray_rerank.jobs.outputs.record import Overwrite
from ray_rerank.jobs.outputs.report import report_folder
from ray_rerank.jobs.scoring.config import ExecutionConfig
from ray_rerank.operators.candidates.self_pairs import DropSelf, chosen, told
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.texts import Queries
from ray_rerank.operators.location import Location
from ray_rerank.operators.mining.guard import Guard, GuardOutcome, ScoredDraw, apply_guard
from ray_rerank.operators.mining.negatives import (
    NO_LIST,
    DrawRules,
    NearDuplicates,
    Negative,
    RankedRows,
    draw_negatives,
)
from ray_rerank.operators.mining.notes import guard_notes, shortage_notes
from ray_rerank.operators.mining.shards import POSITIVE, MinedQuery, mined_shard
from ray_rerank.operators.mining.sources import BiEncoderSource, RunSource, Source
from ray_rerank.operators.rejects import Reason, Reject, Report

_NOT_DECIDING: Any = dict.fromkeys(
    ("output", "overwrite", "vectors", "cache", "executor", "address", "limits", "encoder"), True
) | {
    "sources": {"__all__": {"encoder"}},
    "guard": {"scorer"},
}
"""Of the config; what the models are stands in their identities, wherever they lie."""

_COUNTED = ("queries", "positives", "negatives", "shards")


class Config(ExecutionConfig):
    """Write each query's positives and drawn negatives, with texts, as flat shards for label, train or rerank."""

    queries: Location | None = Field(None, description="TSV of id<TAB>text, CSV, JSON or Parquet; compressed or not")
    passages: Location | None = Field(
        None, description="TSV of id<TAB>text, CSV, JSON or Parquet; compressed or not: the corpus"
    )
    beir: Location | None = Field(None, description="in place of both: a folder with corpus.jsonl and queries.jsonl")
    split: str | None = Field(None, description="BEIR: judgements are qrels/SPLIT.tsv; left open: test if it is there")
    qrels: Location | None = Field(None, description="the positives; without them candidates are drawn, with no label")
    positive_grade: int = Field(1, ge=1, description="the lowest grade of a positive; judged relevant is no negative")
    positives: int | None = Field(None, ge=1, description="at most so many positives a query, highest grade first")
    sources: tuple[Source, ...] = Field((), description="[{kind: bm25|random|bi-encoder|run, count, ranks, draw, …}]")
    source: str | None = Field(None, description="short for one source: its kind")
    count: int = Field(4, ge=1, description="with `source`: negatives a query")
    ranks: str = Field("1-100", description="with `source`: the ranks to draw from")
    encoder: Location | None = Field(None, description="with `source bi-encoder`: its model")
    run: Location | None = Field(None, description="with `source run`: the TREC run")
    guard: Guard | None = Field(
        None, description="{scorer: {…}, at_most, fallback, …}: leaves out what a teacher scores high"
    )
    cache: Location | None = Field(None, description="score cache of the guard's teacher")
    vectors: Location | None = Field(None, description="folder or URI of kept vectors; default: inside the output")
    near_duplicates: float | None = Field(
        None,
        gt=0,
        le=1,
        description="passages with at least this share of their words in common (Jaccard) count as one text: 0.9; left "
        "open: only those that differ in case, white space and outer punctuation at most",
    )
    seed: int = Field(0, ge=0, description="of every draw")
    drop_self: DropSelf | None = Field(
        None,
        description="take no passage that is the query itself, by `id`, `text` or `both`, or any: `off`; left open: by "
        "id for ArguAna, Quora and CQADupStack, else off",
    )
    shard_queries: int = Field(1000, ge=1, description="queries a shard")
    output: Location = Field(description="folder of the shards")
    overwrite: Overwrite = False

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if not values.get("source"):
            if given := [name for name in ("count", "ranks", "encoder", "run") if values.get(name) is not None]:
                raise ValueError(f"`{given[0]}` goes with `source`; in `sources` each has its own")
            return values
        if values.get("sources"):
            raise ValueError("give `source` or `sources`, not both")
        kind = values["source"]
        for name, owner in (("encoder", "bi-encoder"), ("run", "run")):
            if values.get(name) and kind != owner:
                raise ValueError(f"`{name}` goes with `source: {owner}`, not with {kind}")
            if kind == owner and not values.get(name):
                raise ValueError(f"`source: {owner}` needs `{name}`")
        if values.get("ranks") and kind == "random":
            raise ValueError("`ranks` are of a ranked list: random passages have none")
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


def run(config: Config) -> int:
    """Read, list, draw, guard, write; a finished one is not done again.

    Raises:
        UserError, ClusterError: something is wrong with what all queries share.
    """
    started = time.monotonic()
    check_apart(output=config.output, cache=config.cache, vectors=config.vectors)
    files = _find_files(config)
    rule = chosen(config.drop_self, files.queries, files.passages)
    settings = config.model_dump(mode="json", exclude=_NOT_DECIDING)
    settings |= {"models": _models(config), "drop_self": rule}
    claim = prepared_folder.claim(config.output, settings, _inputs(config, files), config.overwrite, "mine")
    if claim.finished is not None:
        print(f"{config.output}: already mined from these files with these settings")
        return report_folder(config.output, claim.finished, _COUNTED, claim.errors)
    with held(config.output, "mine"):
        return _mine(config, files, rule, claim, started)


def _mine(config: Config, files: TextFiles, rule: DropSelf, claim: prepared_folder.Claim, started: float) -> int:
    report = Report()
    queries = load_queries(files.queries, report.rejects)
    corpus = load_corpus(files.passages, queries, rule, report)
    asked = _find_queries(config, queries, corpus, files.qrels, report)
    if rule != "off":
        report.notes.append(told(sum(len(corpus.own.get(one.query_id, ())) for one in asked), rule, config.drop_self))
    label = None if files.qrels is None else 0.0
    vectors = VectorStore(config.vectors or join(claim.work, "vectors"), config)
    texts = Queries(queries.name, {one.query_id: one.query for one in asked})
    drawn = _draw(config, asked, corpus, [ranked_lists(one, texts, corpus, vectors, report) for one in config.sources])
    outcomes = [GuardOutcome(negatives, Counter()) for negatives in drawn]
    if guard := config.guard:
        pool = [_to_mined_query(config, one, negatives, label) for one, negatives in zip(asked, drawn, strict=True)]
        scores = _score_pool(config, guard, _shards(config, pool, corpus), claim.work)
        pairs = zip(asked, drawn, strict=True)
        draws = [_score_draw(one, negatives, corpus, scores, report) for one, negatives in pairs]
        outcomes = [apply_guard(guard, config.sources, draw) for draw in draws]
        report.notes.extend(guard_notes(guard, config.sources, draws, outcomes))
    report.notes.extend(shortage_notes(config.sources, drawn, outcomes, config.guard))
    mined = [_to_mined_query(config, one, own.kept, label) for one, own in zip(asked, outcomes, strict=True)]
    mined = [query for query in mined if len(query.rows)]
    parts = _shards(config, mined, corpus)
    prepared_folder.begin(claim)
    shards = [prepared_folder.write_shard(claim, number, len(parts), part) for number, part in enumerate(parts)]
    by_source = Counter(source for query in mined for source in query.sources)
    positives = by_source.pop(POSITIVE, 0)
    shares = ", ".join(f"{count:,} {kind}" for kind, count in by_source.items()) or "none"
    report.notes.append(f"negatives by source: {shares}")
    summary = {
        "shards": shards,
        "queries": len(mined),
        "positives": positives,
        "negatives": dict(by_source),
        **report.as_dict(),
        "seconds": round(time.monotonic() - started, 1),
    }
    prepared_folder.finish(claim, report.rejects.table(), summary)
    return report_folder(config.output, summary, _COUNTED, claim.errors)


def _find_files(config: Config) -> TextFiles:
    if config.beir is None:
        return TextFiles(str(config.queries), str(config.passages), config.qrels)
    files = beir_files(config.beir, config.split)
    return replace(files, qrels=config.qrels or files.qrels)


def _models(config: Config) -> list[dict[str, Any]]:
    """What encoders and teacher are: other weights at the same place mine something else.

    Raises:
        ModelError: one cannot be found.
    """
    encoders = [source.encoder.identity() for source in config.sources if isinstance(source, BiEncoderSource)]
    return [*encoders, *([config.guard.scorer.identity()] if config.guard else [])]


def _inputs(config: Config, files: TextFiles) -> list[StoredFile]:
    runs = [source.path for source in config.sources if isinstance(source, RunSource)]
    qrels = [files.qrels] if files.qrels else []
    return [describe_file(path) for path in [files.queries, files.passages, *qrels, *runs]]


def _find_queries(
    config: Config, queries: Queries, corpus: Corpus, qrels: str | None, report: Report
) -> list[JudgedQuery]:
    """The queries to mine for: with judgements those that have a positive, else all.

    Raises:
        InputError: there is none, or the guard needs positives and there are no judgements.
    """
    if qrels is not None:
        asked = find_positives(queries, load_qrels(qrels), corpus, config.positive_grade, report)
        return [replace(one, positives=one.positives[: config.positives]) for one in asked]
    if config.guard and config.guard.needs_positives:
        raise InputError("the guard's margins are relative to positives: give --qrels, or only max_score")
    own = corpus.own
    return [JudgedQuery(query_id, query, (), own.get(query_id, ())) for query_id, query in queries.texts.items()]


def _draw(
    config: Config, asked: list[JudgedQuery], corpus: Corpus, lists: list[dict[str, RankedRows]]
) -> list[list[Negative]]:
    """Each query's negatives, more than are wanted where a guard chooses among them."""
    near = NearDuplicates(corpus.passages.texts, config.near_duplicates) if config.near_duplicates else None
    rules = DrawRules(config.sources, corpus.keys, config.seed, config.guard.pool if config.guard else 1, near)
    return [
        draw_negatives(rules, one.query_id, [ranked.get(one.query_id, NO_LIST) for ranked in lists], one.relevant)
        for one in asked
    ]


def _score_pool(config: Config, guard: Guard, shards: list[bytes], work: str) -> PoolScores:
    """The teacher's scores of all that was drawn."""
    told = json.dumps([guard.scorer.identity(), *map(fingerprint, shards)])  # other bounds take the scores as they are
    folder = join(absolute(work), fingerprint(told.encode())[:16])
    return PoolScores(folder, teacher_scores(folder, shards, guard.scorer, config.cache, config))


def _score_draw(
    query: JudgedQuery, negatives: list[Negative], corpus: Corpus, scores: PoolScores, report: Report
) -> ScoredDraw:
    """One query's draws with their scores; a pair without a score is a reject."""
    rows = [*(negative.row for negative in negatives), *query.positives]
    found = np.array([scores.by_pair.get((query.query_id, corpus.doc_ids[row]), np.nan) for row in rows])
    for at in np.flatnonzero(np.isnan(found)).tolist():
        doc_id = corpus.doc_ids[rows[at]]
        detail = f"query_id {query.query_id!r}, doc_id {doc_id!r}"
        report.rejects.add(Reject(scores.name, 0, Reason.UNSCORED, detail, query.query_id, doc_id))
    return ScoredDraw(negatives, found[: len(negatives)], found[len(negatives) :])


def _to_mined_query(config: Config, one: JudgedQuery, negatives: list[Negative], label: float | None) -> MinedQuery:
    """A query with its positives first; `label` is that of the negatives, if they have one."""
    rows = np.array([*one.positives, *(negative.row for negative in negatives)], np.int64)
    scores = np.array([np.nan] * len(one.positives) + [negative.score for negative in negatives], np.float32)
    of_negatives = np.nan if label is None else label
    labels = np.array([1.0] * len(one.positives) + [of_negatives] * len(negatives), np.float32)
    kinds = [POSITIVE] * len(one.positives) + [config.sources[negative.source].kind for negative in negatives]
    return MinedQuery(one.query_id, one.query, rows, scores, labels, kinds)


def _shards(config: Config, mined: list[MinedQuery], corpus: Corpus) -> list[bytes]:
    size = config.shard_queries
    parts = [mined[start : start + size] for start in range(0, len(mined), size)]
    return [mined_shard(part, corpus.doc_ids, corpus.passages.texts) for part in parts]
