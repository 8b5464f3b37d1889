"""`ray-rerank prepare`: runs with their texts, BEIR folders, flat pairs or a bare corpus into shards."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from pydantic import Field

from ray_rerank.cluster import storage
from ray_rerank.cluster.lease import held
from ray_rerank.jobs.config import JobConfig
from ray_rerank.jobs.inputs.collections import beir_files, describe_file, judged_queries, load_run
from ray_rerank.jobs.inputs.datasets import dataset_texts
from ray_rerank.jobs.inputs.files import input_files
from ray_rerank.jobs.inputs.texts import Texts, file_texts
from ray_rerank.jobs.outputs import shards as prepared_folder
from ray_rerank.jobs.outputs.record import Overwrite
from ray_rerank.jobs.outputs.report import report_folder
from ray_rerank.operators.candidates.flat_pairs import READABLE, group_pairs, read_pairs
from ray_rerank.operators.candidates.join import CandidateList, append, doc_ids_of, draw_random, known_queries, select
from ray_rerank.operators.candidates.self_pairs import (
    DropSelf,
    Own,
    chosen,
    most,
    named_texts,
    other_pairs,
    own_documents,
    told,
    without_own,
)
from ray_rerank.operators.candidates.shards import shard_bytes
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.qrels import Qrels, qrels_lines
from ray_rerank.operators.formats.trec_runs import Run, cut
from ray_rerank.operators.location import Location
from ray_rerank.operators.rejects import Report
from ray_rerank.operators.retrieval.bm25 import bm25_run

COUNTED = ("queries", "candidates", "passages", "shards")


class Config(JobConfig):
    """Write candidate shards from a run and its texts, a bare corpus, a BEIR folder, or flat pairs."""

    run: Location | None = Field(
        None, description="run (TREC: query_id Q0 doc_id rank score tag; or MS MARCO): the first stage"
    )
    queries: Location | None = Field(None, description="TSV of id<TAB>text, CSV, JSON or Parquet; compressed or not")
    passages: Location | None = Field(None, description="TSV of id<TAB>text, CSV, JSON or Parquet; compressed or not")
    beir: Location | None = Field(None, description="folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv")
    dataset: str | None = Field(
        None,
        description="in place of files: a collection's name in ir_datasets (beir/scifact/test), on the hub "
        "(mteb/scifact) or of BEIR's (datasets/NAME); its judgements are written to _qrels.txt",
    )
    split: str | None = Field(
        None,
        description="BEIR and MTEB: only queries judged in qrels/SPLIT.tsv; left open: test if it is there, else all",
    )
    qrels: Location | None = Field(
        None, description="with --queries: only queries judged here: TREC, BEIR TSV or Parquet"
    )
    pairs: Location | None = Field(
        None,
        description="flat rows query_id, query, doc_id, text[, score] in any order: Parquet, TSV, CSV or JSON",
    )
    bm25: int | None = Field(None, ge=1, description="in place of a run: BM25's best N passages a query")
    depth: int | None = Field(None, ge=1, description="only the top N of the run or of the pairs")
    random: int = Field(0, ge=0, description="append N random passages a query, without a score")
    seed: int = Field(0, ge=0, description="of the random passages")
    drop_self: DropSelf | None = Field(
        None,
        description="drop candidates that are the query itself, by `id`, `text` or `both`, or keep them: `off`; left "
        "open: by id for ArguAna, Quora and CQADupStack, else off",
    )
    shard_queries: int = Field(1000, ge=1, description="queries a shard")
    output: Location = Field(description="folder of the candidate shards")
    overwrite: Overwrite = False


@dataclass(frozen=True, slots=True)
class CollectionFiles:
    """A collection and a run of it; without a run, BM25 makes it."""

    texts: Texts
    run: str | None

    def names(self) -> list[str | None]:
        """What everything that will be read is called."""
        return [self.texts.queries, self.texts.passages, self.texts.qrels, self.run]

    def inputs(self) -> list[storage.StoredFile]:
        """What will be read, to tell it from another."""
        return [*self.texts.inputs, *([describe_file(self.run)] if self.run else [])]


@dataclass(frozen=True, slots=True)
class PairFiles:
    """Files of flat pairs, which hold everything."""

    pairs: tuple[str, ...]

    def names(self) -> list[str | None]:
        """What everything that will be read is called."""
        return list(self.pairs)

    def inputs(self) -> list[storage.StoredFile]:
        """What will be read, to tell it from another."""
        return [describe_file(path) for path in self.pairs]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What goes into the shards, and the judgements to write beside them."""

    selections: list[CandidateList]
    texts: pa.Array
    qrels: Qrels | None = None


def run(config: Config) -> int:
    """Read, join, write the shards, and say what was left out."""
    started = time.monotonic()
    sources = find_sources(config)
    rule = chosen(config.drop_self, *sources.names())
    settings = config.model_dump(exclude={"output", "overwrite"}) | {"drop_self": rule}
    claim = prepared_folder.claim(config.output, settings, sources.inputs(), config.overwrite)
    if claim.finished is not None:
        print(f"{config.output}: already prepared from these files with these settings")
        return report_folder(config.output, claim.finished, COUNTED, claim.errors)
    with held(config.output, "prepare"):
        return _prepare(config, sources, rule, claim, started)


def _prepare(
    config: Config, sources: CollectionFiles | PairFiles, rule: DropSelf, claim: prepared_folder.Claim, started: float
) -> int:
    report = Report()
    if isinstance(sources, PairFiles):
        prepared = _from_pairs(sources, config, rule, report)
    else:
        prepared = _from_files(sources, config, rule, report)
    prepared_folder.begin(claim)
    shards = _write(claim, prepared, config.shard_queries)
    if prepared.qrels is not None:
        target = storage.join(config.output, prepared_folder.QRELS)
        storage.write_whole(target, qrels_lines(prepared.qrels.grades, target, report.rejects).encode())
        report.notes.append(f"the judgements are in {target}")
    summary = {
        "shards": shards,
        "queries": len(prepared.selections),
        "candidates": sum(len(selection.rows) for selection in prepared.selections),
        "passages": len({doc_id for selection in prepared.selections for doc_id in selection.doc_ids}),
        **report.as_dict(),
        "seconds": round(time.monotonic() - started, 1),
    }
    prepared_folder.finish(claim, report.rejects.table(), summary)
    return report_folder(config.output, summary, COUNTED, claim.errors)


def find_sources(config: Config) -> CollectionFiles | PairFiles:
    """Tell from the flags which files are to be read.

    Raises:
        InputError: the flags do not go together, or the BEIR folder lacks a file.
    """
    sources = ("run", "queries", "passages", "qrels", "beir", "dataset", "pairs", "bm25")
    given = {name for name in sources if getattr(config, name)}
    if config.split is not None and not given & {"beir", "dataset"}:
        raise InputError("--split chooses the judgements of a --beir folder or a --dataset")
    if config.depth is not None and config.bm25 is not None:
        raise InputError("--bm25 N says how many candidates there are: leave out --depth")
    if "pairs" in given:
        if given != {"pairs"} or config.random:
            raise InputError("--pairs has queries, passages and candidates in one: give no other source with it")
        return PairFiles(_pair_files(str(config.pairs)))
    if len(given & {"run", "bm25"}) != 1:
        raise InputError("the candidates come from --run FILE or, where there is none, from --bm25 N: give one")
    if whole := sorted(given & {"beir", "dataset"}):
        if len(whole) > 1:
            raise InputError("--beir and --dataset each have everything: give one")
        if given & {"queries", "passages", "qrels"}:
            raise InputError(
                f"--{whole[0]} has queries, passages and judgements: leave out --queries, --passages and --qrels"
            )
        if config.dataset is not None:
            return CollectionFiles(dataset_texts(config.dataset, config.split), config.run)
        files = beir_files(str(config.beir), config.split)
        return CollectionFiles(file_texts(files.queries, files.passages, files.qrels), config.run)
    if config.queries is not None and config.passages is not None:
        return CollectionFiles(file_texts(config.queries, config.passages, config.qrels), config.run)
    raise InputError("the texts come from --queries FILE and --passages FILE, from --beir FOLDER or --dataset NAME")


def _pair_files(uri: str) -> tuple[str, ...]:
    return tuple(file.path for file in input_files(uri, READABLE, "flat pairs are read of these"))


def _from_pairs(sources: PairFiles, config: Config, rule: DropSelf, report: Report) -> Prepared:
    dropped = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal dropped
        for path in sources.pairs:
            with storage.open_read(path) as stream:
                for table in read_pairs(stream, path, report.rejects):
                    kept = other_pairs(table, rule)
                    dropped += table.num_rows - kept.num_rows
                    yield kept

    grouped = group_pairs(tables(), config.depth, report.rejects)
    if rule != "off":
        report.notes.append(told(dropped, rule, config.drop_self))
    return Prepared(grouped.selections, grouped.texts)


def _from_files(sources: CollectionFiles, config: Config, rule: DropSelf, report: Report) -> Prepared:
    collection, qrels, rejects = sources.texts, None, report.rejects
    queries = every = collection.load_queries(rejects)
    if collection.qrels is not None:
        qrels = collection.read_qrels()
        queries = judged_queries(every, qrels, report)
    run: Run
    if sources.run is not None:
        whole = load_run(sources.run, report)
        asked = {one: ranked for one, ranked in whole.items() if one in queries.texts or one not in every.texts}
        own = own_documents(queries.texts, rule, collection.passage_texts())
        asked, dropped = without_own(asked, own)
        run = known_queries(asked, sources.run, queries, config.depth, rejects)
        if without := len(queries.texts) - len(run):
            report.notes.append(f"{without} of {len(queries.texts)} queries have no candidate in {sources.run}")
        pool = collection.passage_ids() if config.random else None
        drawn = _drawn(run, pool, own, config) if pool is not None else {}
        passages = collection.load_passages(rejects, doc_ids_of(run) | doc_ids_of(drawn))
    else:
        passages = collection.load_passages(rejects)
        doc_ids = list(passages.row)
        if not doc_ids:
            raise InputError(f"{collection.passages}: holds no passage")
        own = own_documents(queries.texts, rule, named_texts(doc_ids, passages.texts))
        depth = int(config.bm25 or 0)
        run = bm25_run(queries, passages, depth + most(own), rejects)
        run, dropped = without_own(run, own)
        run = {query_id: cut(ranked, depth) for query_id, ranked in run.items()}
        drawn = _drawn(run, pa.array(doc_ids, pa.large_string()), own, config) if config.random else {}
    first_stage = sources.run or "BM25"
    found = select(run, first_stage, queries, passages, rejects)
    more = select(drawn, "the random draw", queries, passages, rejects)
    selections = list(append(found, more))
    if rule != "off":
        report.notes.append(told(dropped, rule, config.drop_self))
    if not selections:
        raise InputError(_no_candidate(run, first_stage, collection.passages))
    return Prepared(selections, passages.texts, qrels if config.dataset else None)


def _drawn(run: Run, pool: pa.Array, own: Own, config: Config) -> Run:
    """Random passages that are neither candidates nor the query itself."""
    drawn, _ = without_own(draw_random(run, pool, config.random + most(own), config.seed), own)
    return {query_id: cut(ranked, config.random) for query_id, ranked in drawn.items()}


def _no_candidate(run: Run, first_stage: str, passages: str) -> str:
    named = next((ranked.doc_ids[0] for ranked in run.values() if ranked.doc_ids), None)
    if named is None and run:
        return f"no query has a candidate in {first_stage} but itself; --drop-self off keeps these"
    if named is None:
        return f"no query shares a word with a passage of {passages}: there is nothing to write"
    return f"none of the documents of {first_stage} (first {named!r}) has a text in {passages}"


def _write(claim: prepared_folder.Claim, prepared: Prepared, shard_queries: int) -> list[str]:
    selections = prepared.selections
    starts = range(0, len(selections), shard_queries)
    return [
        prepared_folder.write_shard(
            claim, index, len(starts), shard_bytes(selections[start : start + shard_queries], prepared.texts)
        )
        for index, start in enumerate(starts)
    ]
