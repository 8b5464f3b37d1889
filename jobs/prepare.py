"""`ray-rerank prepare`: runs with their texts, BEIR folders, flat pairs or a bare corpus into shards."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from pydantic import Field

from cluster import storage
from cluster.lease import held
from jobs import prepared_folder
from jobs.collection_files import (
    beir_files,
    judged_queries,
    load_passage_ids,
    load_passages,
    load_qrels,
    load_queries,
    load_run,
    stored,
)
from jobs.config import JobConfig
from jobs.folder_report import report_folder
from jobs.input_files import input_files
from operators.bm25 import bm25_run
from operators.errors import InputError
from operators.faults import FaultLog
from operators.location import Location
from operators.pairs import group_pairs, read_pairs, read_parquet_pairs
from operators.runs import Run
from operators.selections import Selection, append, doc_ids_of, draw_random, known_queries, select
from operators.shards import shard_bytes

COUNTED = ("queries", "candidates", "passages", "shards")


class Config(JobConfig):
    """Write candidate shards from a run and its texts, a bare corpus, a BEIR folder, or flat pairs."""

    run: Location | None = Field(None, description="TREC run (query_id Q0 doc_id rank score tag): the first stage")
    queries: Location | None = Field(None, description="TSV of id<TAB>text, or JSONL; plain or .gz")
    passages: Location | None = Field(None, description="TSV of id<TAB>text, or JSONL; plain or .gz")
    beir: Location | None = Field(None, description="folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv")
    split: str | None = Field(
        None,
        description="BEIR: only queries judged in qrels/SPLIT.tsv; left open: test if it is there, else all",
    )
    qrels: Location | None = Field(None, description="with --queries: only queries judged here, TREC or BEIR TSV")
    pairs: Location | None = Field(
        None,
        description="flat rows query_id, query, doc_id, text[, score] in any order: Parquet, TSV or JSONL",
    )
    bm25: int | None = Field(None, ge=1, description="in place of a run: BM25's best N passages a query")
    depth: int | None = Field(None, ge=1, description="only the top N of the run or of the pairs")
    random: int = Field(0, ge=0, description="append N random passages a query, without a score")
    seed: int = Field(0, ge=0, description="of the random passages")
    shard_queries: int = Field(1000, ge=1, description="queries a shard")
    output: Location = Field(description="folder of the candidate shards")
    overwrite: bool = Field(False, description="replace the shards of another prepare")


@dataclass(frozen=True, slots=True)
class Separate:
    """Texts, run and judgements in files of their own; without a run, BM25 makes it."""

    queries: str
    passages: str
    run: str | None
    qrels: str | None

    def paths(self) -> list[str]:
        """Every file that will be read."""
        return [path for path in (self.queries, self.passages, self.run, self.qrels) if path is not None]


@dataclass(frozen=True, slots=True)
class Flat:
    """Files of flat pairs, which hold everything."""

    pairs: tuple[str, ...]

    def paths(self) -> list[str]:
        """Every file that will be read."""
        return list(self.pairs)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What goes into the shards, and what the user should know of how it came about."""

    selections: list[Selection]
    texts: pa.Array
    notes: list[str]


def run(config: Config) -> int:
    """Read, join, write the shards, and say what was left out."""
    started = time.monotonic()
    sources = find_sources(config)
    settings = config.model_dump(exclude={"output", "overwrite"})
    inputs = [stored(path) for path in sources.paths()]
    claim = prepared_folder.claim(config.output, settings, inputs, config.overwrite)
    if claim.finished is not None:
        print(f"{config.output}: already prepared from these files with these settings")
        return report_folder(config.output, claim.finished, COUNTED, claim.errors)
    with held(config.output, "prepare"):
        return _prepare(config, sources, claim, started)


def _prepare(config: Config, sources: Separate | Flat, claim: prepared_folder.Claim, started: float) -> int:
    faults = FaultLog()
    if isinstance(sources, Flat):
        prepared = _from_pairs(sources, config, faults)
    else:
        prepared = _from_files(sources, config, faults)
    prepared_folder.begin(claim)
    shards = _write(claim, prepared, config.shard_queries)
    summary = {
        "shards": shards,
        "queries": len(prepared.selections),
        "candidates": sum(len(selection.rows) for selection in prepared.selections),
        "passages": len({doc_id for selection in prepared.selections for doc_id in selection.doc_ids}),
        "left_out": {str(reason): count for reason, count in faults.counts.items()},
        "first": {str(reason): list(map(str, faults.first(reason))) for reason in faults.counts},
        "notes": prepared.notes,
        "seconds": round(time.monotonic() - started, 1),
    }
    prepared_folder.finish(claim, faults.table(), summary)
    return report_folder(config.output, summary, COUNTED, claim.errors)


def find_sources(config: Config) -> Separate | Flat:
    """Tell from the flags which files are to be read.

    Raises:
        InputError: the flags do not go together, or the BEIR folder lacks a file.
    """
    given = {name for name in ("run", "queries", "passages", "qrels", "beir", "pairs", "bm25") if getattr(config, name)}
    if config.split is not None and config.beir is None:
        raise InputError("--split chooses the judgements of a --beir folder")
    if config.depth is not None and config.bm25 is not None:
        raise InputError("--bm25 N says how many candidates there are: leave out --depth")
    if "pairs" in given:
        if given != {"pairs"} or config.random:
            raise InputError("--pairs has queries, passages and candidates in one: give no other source with it")
        return Flat(_pair_files(str(config.pairs)))
    if len(given & {"run", "bm25"}) != 1:
        raise InputError("the candidates come from --run FILE or, where there is none, from --bm25 N: give one")
    if "beir" in given:
        if given & {"queries", "passages", "qrels"}:
            raise InputError("--beir has queries, passages and judgements: leave out --queries, --passages and --qrels")
        files = beir_files(str(config.beir), config.split)
        return Separate(files.queries, files.passages, config.run, files.qrels)
    if config.queries is not None and config.passages is not None:
        return Separate(config.queries, config.passages, config.run, config.qrels)
    raise InputError("the texts come from --queries FILE and --passages FILE, or from --beir FOLDER")


def _pair_files(uri: str) -> tuple[str, ...]:
    endings = (".parquet", ".tsv", ".jsonl", ".tsv.gz", ".jsonl.gz")
    return tuple(file.path for file in input_files(uri, endings, "flat pairs are read of these"))


def _from_pairs(sources: Flat, config: Config, faults: FaultLog) -> Prepared:
    def tables() -> Iterator[pa.Table]:
        for path in sources.pairs:
            read = read_parquet_pairs if path.endswith(".parquet") else read_pairs
            with storage.open_read(path) as stream:
                yield from read(stream, path, faults)

    grouped = group_pairs(tables(), config.depth, faults)
    return Prepared(grouped.selections, grouped.texts, [])


def _from_files(sources: Separate, config: Config, faults: FaultLog) -> Prepared:
    notes: list[str] = []
    queries = every = load_queries(sources.queries, faults)
    if sources.qrels is not None:
        queries = judged_queries(every, load_qrels(sources.qrels), sources.queries, sources.qrels, notes)
    run: Run
    if sources.run is not None:
        whole = load_run(sources.run, faults, notes)
        asked = {query_id: ranked for query_id, ranked in whole.items() if query_id in queries or query_id not in every}
        run = known_queries(asked, queries, config.depth, sources.run, sources.queries, faults)
        if without := len(queries) - len(run):
            notes.append(f"{without} of {len(queries)} queries have no candidate in {sources.run}")
        pool = load_passage_ids(sources.passages) if config.random else None
        drawn = draw_random(run, pool, config.random, config.seed) if pool is not None else {}
        passages = load_passages(sources.passages, faults, doc_ids_of(run) | doc_ids_of(drawn))
    else:
        passages = load_passages(sources.passages, faults)
        doc_ids = list(passages.row)
        if not doc_ids:
            raise InputError(f"{sources.passages}: holds no passage")
        run = bm25_run(queries, doc_ids, passages.texts, config.bm25 or 0, sources.queries, faults)
        pool = pa.array(doc_ids, pa.large_string())
        drawn = draw_random(run, pool, config.random, config.seed) if config.random else {}
    first_stage = sources.run or "BM25"
    found = select(run, queries, passages.row, first_stage, sources.passages, faults)
    more = select(drawn, queries, passages.row, "the random draw", sources.passages, faults)
    selections = list(append(found, more))
    if not selections:
        raise InputError(_no_candidate(run, first_stage, sources.passages))
    return Prepared(selections, passages.texts, notes)


def _no_candidate(run: Run, first_stage: str, passages: str) -> str:
    named = next((ranked.doc_ids[0] for ranked in run.values()), None)
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
