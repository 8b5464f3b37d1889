"""Collections by the names that ir_datasets, MTEB and BEIR have for them, from where these keep their data."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ray_rerank.cluster.storage import StoredFile, open_read
from ray_rerank.jobs.inputs.collections import beir_files, describe_file, load_qrels, read_texts
from ray_rerank.jobs.inputs.texts import Texts, file_texts
from ray_rerank.operators.datasets.hub import CORPUS, QRELS, QUERIES, Snapshot, find_snapshot
from ray_rerank.operators.datasets.ir_datasets import IrDataset, ir_dataset
from ray_rerank.operators.datasets.rows import json_lines, judgements_of, qrels_of
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.content import with_compressed
from ray_rerank.operators.formats.parquet_rows import is_parquet_file, parquet_rows
from ray_rerank.operators.formats.qrels import Qrels, read_qrels
from ray_rerank.operators.formats.texts import TextLine, read_collection
from ray_rerank.operators.rejects import RejectSink

BEIR_FOLDER = "datasets"
"""Where BEIR's own examples put what they download."""


def dataset_texts(name: str, split: str | None) -> Texts:
    """The collection of this name.

    A folder or ZIP of BEIR's below `datasets/` goes first, then an id of ir_datasets, then OWNER/NAME on the hub.

    Args:
        split: of the judgements, where the name does not say it; left open: test.

    Raises:
        InputError: it is known nowhere, not on disk and cannot be fetched, or a library is missing.
    """
    folder = Path(BEIR_FOLDER) / name
    if folder.is_dir():
        files = beir_files(str(folder), split)
        return file_texts(files.queries, files.passages, files.qrels)
    archive = Path(BEIR_FOLDER) / f"{name.partition('/')[0]}.zip"  # cqadupstack.zip holds cqadupstack/android/
    if archive.is_file():
        return _zip_texts(archive, name, split or "test")
    missing = None
    try:
        found = ir_dataset(name)
    except ImportError:
        found, missing = None, "ir_datasets is not installed: pip install 'ray-rerank[datasets]'"
    if found is not None:
        if split is not None:
            raise InputError(f"{name}: the id of an ir_datasets collection says its split: leave out --split")
        return _ir_texts(found)
    if name.partition("@")[0].count("/") in {1, 2}:
        return _hub_texts(name, split or "test", missing)
    raise InputError(
        f"{name}: is no folder or ZIP in {BEIR_FOLDER}/, no OWNER/NAME of the hub (such as mteb/scifact), and "
        + (f"maybe an id of ir_datasets, but {missing}" if missing else "no id that ir_datasets knows")
    )


def _ir_texts(dataset: IrDataset) -> Texts:
    name = dataset.name
    return Texts(
        name,
        name,
        name if dataset.is_judged else None,
        (StoredFile(f"ir_datasets:{name}", 0, ""),),
        dataset.queries,
        dataset.passages,
        dataset.qrels,
    )


def _zip_texts(path: Path, folder: str, split: str) -> Texts:
    """A BEIR folder in the ZIP that it comes in.

    Raises:
        InputError: it is no ZIP, or holds no such folder.
    """
    try:
        names = zipfile.ZipFile(path).namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as a ZIP: {error}") from None
    corpus, queries, qrels = (f"{folder}/{file}" for file in ("corpus.jsonl", "queries.jsonl", f"qrels/{split}.tsv"))
    if missing := [name for name in (corpus, queries, qrels) if name not in names]:
        raise InputError(f"{path}: holds no {missing[0]}; it has {', '.join(sorted(names)[:8])}")

    def entries(member: str) -> Callable[[RejectSink], Iterator[TextLine]]:
        def read(rejects: RejectSink) -> Iterator[TextLine]:
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                yield from read_collection(stream, f"{path}, {member}", rejects)

        return read

    def judged() -> Qrels:
        with zipfile.ZipFile(path) as archive, archive.open(qrels) as stream:
            return read_qrels(stream, f"{path}, {qrels}")

    return Texts(
        f"{path}, {queries}",
        f"{path}, {corpus}",
        f"{path}, {qrels}",
        (describe_file(str(path)),),
        entries(queries),
        entries(corpus),
        judged,
    )


def _hub_texts(name: str, split: str, missing: str | None) -> Texts:
    """OWNER/NAME or OWNER/NAME/PART, at a @REVISION where the cache holds several."""
    plain, _, revision = name.partition("@")
    owner, own, *parts = plain.split("/")
    part = parts[0] if parts else None
    try:
        snapshot = find_snapshot(f"{owner}/{own}", revision or None)
    except InputError as error:
        raise InputError(f"{error}; {missing or 'ir_datasets knows no such id'}") from None
    queries, corpus = snapshot.files(QUERIES, part, split), snapshot.files(CORPUS, part, split)
    judged = _judgements(snapshot, part, split)
    return Texts(
        name,
        name,
        name if judged else None,
        tuple(describe_file(str(file)) for file in (*queries, *corpus, *judged)),
        lambda rejects: _entries(queries, rejects),
        lambda rejects: _entries(corpus, rejects),
        lambda: qrels_of(_triples(judged), name),
    )


def _judgements(snapshot: Snapshot, part: str | None, split: str) -> tuple[Path, ...]:
    """The files of the judgements; BEIR has them in a data set of their own. None where nothing is judged."""
    if snapshot.has(QRELS, part):
        return snapshot.files(QRELS, part, split)
    if snapshot.name.lower().startswith("beir/"):
        return find_snapshot(f"{snapshot.name}-qrels", None).files(QRELS, part, split)
    return ()


def _entries(files: tuple[Path, ...], rejects: RejectSink) -> Iterator[TextLine]:
    for file in map(str, files):
        yield from read_texts(file, rejects)


def _triples(files: tuple[Path, ...]) -> Iterator[tuple[str, str, float]]:
    """(query_id, doc_id, grade) of files of one data set, in any of the forms that they have."""
    for file in map(str, files):
        if file.endswith(with_compressed((".tsv",))):
            for query_id, grades in load_qrels(file).grades.items():
                yield from ((query_id, doc_id, grade) for doc_id, grade in grades.items())
            continue
        with open_read(file) as stream:
            rows = parquet_rows(stream, file) if is_parquet_file(stream, file) else json_lines(stream, file)
            yield from judgements_of(rows, file)
