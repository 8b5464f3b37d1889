"""The files of a collection: where they are, and how queries, passages and runs are read out of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ray_rerank.cluster import storage
from ray_rerank.operators.datasets.rows import json_lines, judgements_of, qrels_of
from ray_rerank.operators.errors import InputError, listed
from ray_rerank.operators.formats.content import with_compressed
from ray_rerank.operators.formats.json_rows import is_json
from ray_rerank.operators.formats.parquet_rows import is_parquet_file, parquet_rows
from ray_rerank.operators.formats.qrels import Qrels, read_qrels
from ray_rerank.operators.formats.texts import Passages, Queries, TextLine, passages_of, read_collection, texts_by_id
from ray_rerank.operators.formats.trec_runs import Run, read_run
from ray_rerank.operators.rejects import RejectSink, Report


@dataclass(frozen=True, slots=True)
class TextFiles:
    """The files of a collection; `qrels` is None where nothing is judged."""

    queries: str
    passages: str
    qrels: str | None


def beir_files(folder: str, split: str | None) -> TextFiles:
    """The files of a BEIR folder; without a split, the judgements of `test` where they are there.

    Raises:
        InputError: the folder lacks a file.
    """
    system, root = storage.filesystem(folder)
    if not system.isdir(root):
        raise InputError(f"{folder}: there is no such folder")

    corpus, queries = _beside(folder, "corpus.jsonl"), _beside(folder, "queries.jsonl")
    if corpus is None and (children := _beir_children(folder)):
        raise InputError(
            f"{folder}: holds {len(children)} collections, {listed(children)}; give one of them, as in "
            f"{storage.join(folder, children[0])}"
        )
    if corpus is None or queries is None:
        missing = "corpus.jsonl" if corpus is None else "queries.jsonl"
        raise InputError(f"{folder}: holds no {missing}; a BEIR folder has corpus.jsonl and queries.jsonl")
    qrels = beir_qrels(folder, split or "test")
    if split is not None and qrels is None:
        names = storage.names_below(storage.join(folder, "qrels"))
        raise InputError(f"{folder}: holds no qrels/{split}.tsv; it has {listed(names) or 'no qrels'}")
    return TextFiles(queries, corpus, qrels)


def beir_qrels(folder: str, split: str) -> str | None:
    """The judgements of one split of a BEIR folder; None where there are none."""
    return _beside(folder, f"qrels/{split}.tsv")


def _beir_children(folder: str) -> list[str]:
    """The folders in one that are BEIR folders, as CQADupStack's are."""
    system, root = storage.filesystem(folder)
    names = (path.rstrip("/").rpartition("/")[2] for path in system.ls(root, detail=False) if system.isdir(path))
    return sorted(name for name in names if _beside(storage.join(folder, name), "corpus.jsonl"))


def _beside(folder: str, name: str) -> str | None:
    system, root = storage.filesystem(folder)
    names = with_compressed((name,))
    return next((storage.join(folder, n) for n in names if system.isfile(storage.join(root, n))), None)


def describe_file(path: str) -> storage.StoredFile:
    """A file as a listing shows it.

    Raises:
        InputError: it is a folder.
        StorageError: it is not there.
    """
    system, root = storage.filesystem(path)
    if system.isdir(root):
        raise InputError(f"{path}: is a folder; a file is asked for")
    files = storage.list_files(path, ("",))
    return files[0] if files else storage.StoredFile(path, 0, "")


def load_queries(path: str, rejects: RejectSink) -> Queries:
    """Read queries, in file order.

    Raises:
        InputError: there is none, or the file is of another format.
    """
    return queries_of(read_texts(path, rejects), path, rejects)


def queries_of(entries: Iterable[TextLine], path: str, rejects: RejectSink) -> Queries:
    """As `load_queries`, of what was read."""
    texts = texts_by_id(entries, path, rejects)
    if not texts:
        raise InputError(f"{path}: holds no query")
    return Queries(path, texts)


def load_qrels(path: str) -> Qrels:
    """Judgements: TREC, BEIR or MTEB, as text, Parquet or JSONL.

    Raises:
        StorageError, InputError: they cannot be read, or one line is wrong: no figure could be trusted.
    """
    with storage.open_read(path) as stream:
        if is_parquet_file(stream, path):
            return qrels_of(judgements_of(parquet_rows(stream, path), path), path)
        if is_json(stream, path):
            return qrels_of(judgements_of(json_lines(stream, path), path), path)
        return read_qrels(stream, path)


def judged_queries(queries: Queries, qrels: Qrels, report: Report) -> Queries:
    """The queries that are judged; a note says how many there are of them and of the others.

    Raises:
        InputError: there is none.
    """
    kept = {query_id: text for query_id, text in queries.texts.items() if query_id in qrels.grades}
    count = len(queries.texts)
    if not kept:
        raise InputError(f"none of the queries of {queries.name} is judged in {qrels.name}")
    if len(kept) < count:
        report.notes.append(f"{len(kept)} of {count} queries are judged in {qrels.name}; the others are left out")
    else:
        report.notes.append(f"all {count} queries are judged in {qrels.name}")
    if without := len(qrels.grades) - len(kept):
        report.notes.append(f"{without} queries are judged in {qrels.name} but have no text in {queries.name}")
    return Queries(queries.name, kept)


def load_run(path: str, report: Report) -> Run:
    """A run; a note says where its columns are not TREC's, and where its ranks contradict its scores."""
    with storage.open_read(path) as stream:
        found = read_run(stream, path, report.rejects)
    report.notes.extend(found.notes(path))
    return found.run


def load_passages(path: str, rejects: RejectSink, wanted: frozenset[str] | None = None) -> Passages:
    """The passages that are wanted, all where None."""
    return passages_of(read_texts(path, rejects), path, rejects, wanted)


def read_texts(path: str, rejects: RejectSink) -> Iterator[TextLine]:
    """The queries or passages of a file, as a stream."""
    with storage.open_read(path) as stream:
        yield from read_collection(stream, path, rejects)
