"""What `train` reads: the pairs it learns from, and the candidates that it is measured on."""

from collections.abc import Iterator
from typing import IO

from ray_rerank.cluster import storage
from ray_rerank.jobs.inputs.collections import load_qrels
from ray_rerank.jobs.inputs.files import PARQUET, input_files
from ray_rerank.jobs.outputs.finished import check_finished
from ray_rerank.operators.rejects import Report
from ray_rerank.operators.training.held_out import JudgedCandidates, judged_candidates
from ray_rerank.operators.training.pair_files import READABLE, Target, read_parquet
from ray_rerank.operators.training.pairs import TrainingPairs, read_training_pairs


def find_inputs(pairs: str, candidates: str | None) -> list[str]:
    """See that the files of both are there to be read; the notes on what their jobs left out.

    Raises:
        StorageError, InputError: they are not, or a job has not finished one of them.
    """
    notes = check_finished(pairs)
    _pair_files(pairs)
    if candidates is not None:
        notes += check_finished(candidates)
        _candidate_files(candidates)
    return notes


def load_training_pairs(uri: str, target: Target | None) -> TrainingPairs:
    """Pairs of a file, or of all Parquet, TSV and JSONL files of a folder, by `read_training_pairs`.

    Files and folders whose names begin with `_` or `.` are not data.

    Raises:
        StorageError, InputError: nothing is there to be read, or it holds no usable pair.
    """
    return read_training_pairs(_opened(_pair_files(uri)), uri, target)


def load_evaluation(candidates: str, qrels: str, report: Report) -> JudgedCandidates:
    """Candidates and the judgements of their queries; notes say what is left out.

    Raises:
        StorageError, InputError: they cannot be read.
    """
    grades = load_qrels(qrels).grades
    tables = ((path, read_parquet(path, content)) for path, content in _opened(_candidate_files(candidates)))
    return judged_candidates(tables, grades, candidates, report)


def _pair_files(uri: str) -> list[str]:
    return [file.path for file in input_files(uri, READABLE, "`ray-rerank mine` and `label` write training pairs")]


def _candidate_files(uri: str) -> list[str]:
    return [file.path for file in input_files(uri, PARQUET, "`ray-rerank prepare` makes candidate shards")]


def _opened(paths: list[str]) -> Iterator[tuple[str, IO[bytes]]]:
    for path in paths:
        with storage.open_read(path) as stream:
            yield path, stream
