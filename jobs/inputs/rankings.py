"""Rankings from where they lie, and the judged queries that they have."""

from collections.abc import Iterator

import pyarrow as pa

from ray_rerank.cluster import storage
from ray_rerank.jobs.inputs.files import PARQUET, input_files
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.parquet_rows import batches, open_parquet
from ray_rerank.operators.formats.qrels import Grades, Qrels
from ray_rerank.operators.formats.rankings import Rankings, ranking_column, read_rankings
from ray_rerank.operators.formats.trec_runs import Run, read_run
from ray_rerank.operators.rejects import RaiseOnReject


def load_rankings(path: str) -> Rankings:
    """Read the output of rerank, candidate shards, or a run.

    Raises:
        StorageError, InputError: it cannot be read, or is none of them.
    """
    system, root = storage.filesystem(path)
    if root.endswith(PARQUET) or not system.isfile(root):
        files = input_files(path, PARQUET, "give the output folder of rerank, or a run")
        return read_rankings(_tables([file.path for file in files]))
    with storage.open_read(path) as stream:
        found = read_run(stream, path, RaiseOnReject())
    return Rankings(run=found.run, notes=tuple(found.notes(path)))


def counted_queries(qrels: Qrels, run: Run, name: str, only_ranked: bool) -> Grades:
    """The grades of the queries that count: all that are judged, or those of them that are ranked.

    Args:
        name: what messages call the run.

    Raises:
        InputError: they have no query in common: that is a mistake, not a mean of 0.
    """
    common = {query_id: grades for query_id, grades in qrels.grades.items() if query_id in run}
    if not common:
        raise InputError(
            f"none of the {len(run)} queries of {name} (first {next(iter(run))!r}) is judged "
            f"in {qrels.name} (first {next(iter(qrels.grades))!r})"
        )
    return common if only_ranked else qrels.grades


def _tables(paths: list[str]) -> Iterator[tuple[str, pa.Table]]:
    for path in paths:
        with storage.open_read(path) as stream:
            file = open_parquet(stream, path)
            columns = ["query_id", ranking_column(file.schema_arrow, path)]
            for batch in batches(file, stream, path, columns):
                yield path, pa.Table.from_batches([batch])
