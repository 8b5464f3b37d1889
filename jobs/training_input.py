"""What `train` reads: the pairs it learns from, and the candidates that it is measured on."""

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from cluster import storage
from jobs.collection_files import load_qrels
from jobs.finished_input import check_finished
from jobs.input_files import PARQUET, input_files
from operators.training_pairs import READABLE, Target, TrainingPairs, read_parquet, read_training_pairs

if TYPE_CHECKING:
    from operators.held_out import JudgedCandidates


def load_training_pairs(uri: str, target: Target | None) -> TrainingPairs:
    """Pairs of a file, or of all Parquet, TSV and JSONL files of a folder, by `read_training_pairs`.

    Files and folders whose names begin with `_` or `.` are not data.

    Raises:
        StorageError, InputError: nothing is there to be read, or it holds no usable pair.
    """
    paths = [file.path for file in input_files(uri, READABLE, "`ray-rerank mine` and `label` write training pairs")]
    return read_training_pairs(_opened(paths), uri, target)


def load_evaluation(candidates: str, qrels: str, notes: list[str]) -> "JudgedCandidates":
    """Candidates and the judgements of their queries; `notes` is told what is left out.

    Raises:
        StorageError, InputError: they cannot be read.
    """
    from operators.held_out import judged_candidates

    notes += check_finished(candidates)
    judged = load_qrels(qrels)
    paths = [file.path for file in input_files(candidates, PARQUET, "`ray-rerank prepare` makes candidate shards")]
    tables = ((path, read_parquet(path, content)) for path, content in _opened(paths))
    return judged_candidates(tables, judged, candidates, notes)


def _opened(paths: list[str]) -> Iterator[tuple[str, IO[bytes]]]:
    for path in paths:
        with storage.open_read(path) as stream:
            yield path, stream
