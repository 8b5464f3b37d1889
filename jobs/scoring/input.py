"""The candidates that a job scores: looked at before any work."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_rerank.cluster.duplicates import Values
from ray_rerank.cluster.errors import StorageError, UnavailableError
from ray_rerank.cluster.parquet import ParquetShard, has_every_value, read_footers, whole_column
from ray_rerank.cluster.units import plan_by_rows
from ray_rerank.jobs.inputs.files import PARQUET, input_files
from ray_rerank.jobs.outputs.finished import check_finished
from ray_rerank.operators.candidates.schema import Columns, Shape, needed_columns, shape_of
from ray_rerank.operators.errors import InputError

_READERS = 16  # files whose query_ids are read at a time


@dataclass(frozen=True, slots=True)
class CandidateInput:
    """Candidate files that have been looked at: footers only.

    Attributes:
        shape: one row a query, or one a pair.
        columns: the top-level columns to read, by file: files may differ in what else they hold.
        items: the column whose values are the candidates; where no file has it, the rows are.
        bad_files: what is wrong with files that are left out, and what the job that wrote them left out.
        scored: whether all files have a column of first-stage scores.
        repeated: rows by file whose query_id stood in a row before, where a row is a query.
    """

    shards: tuple[ParquetShard, ...]
    shape: Shape
    columns: dict[str, list[str]]
    items: str
    bad_files: tuple[str, ...]
    scored: bool
    repeated: dict[str, np.ndarray]

    @property
    def queries(self) -> int:
        """Rows of all shards."""
        return sum(shard.metadata.num_rows for shard in self.shards)

    @property
    def row_name(self) -> str:
        """What a row is."""
        return "queries" if self.shape == "nested" else "rows"

    @property
    def pairs(self) -> int:
        """Candidates of all shards, as the footers say: a null or an empty list of them counts as one."""
        return sum(unit.items for unit in plan_by_rows(list(self.shards), self.items, 1 << 62))

    @property
    def counted(self) -> bool:
        """Whether `pairs` is certain, and no list may be null or empty."""
        return self.shape == "flat" or all(has_every_value(shard.metadata, self.items) for shard in self.shards)

    @property
    def bytes(self) -> int:
        """What all shards hold once decompressed."""
        groups = ((shard.metadata, number) for shard in self.shards for number in range(shard.metadata.num_row_groups))
        return sum(metadata.row_group(number).total_byte_size for metadata, number in groups)


@dataclass(frozen=True, slots=True)
class CandidateSource:
    """Where candidates are and what is to be read of them."""

    input: str
    columns: Columns
    pass_through: tuple[str, ...] = ()
    skip_bad_files: bool = False


def read_input(source: CandidateSource) -> CandidateInput:
    """Look at all input files: their footers, and the query_ids.

    Raises:
        StorageError: nothing is there.
        InputError: no file, a damaged file (unless they are to be skipped), a missing column or a wrong type.
    """
    missing = check_finished(source.input)
    files = input_files(source.input, PARQUET, "`ray-rerank prepare` makes candidate shards")
    shards, bad = read_footers(files, source.columns.candidates)
    shapes: dict[str, Shape] = {}
    columns: dict[str, list[str]] = {}
    good = []
    for shard in shards:
        path = shard.stored.path
        try:
            shapes[path] = shape_of(shard.schema, source.columns, source.pass_through, path)
            if source.skip_bad_files and shapes[path] == "flat":
                whole_column(shard, source.columns.query_id)  # the plan is made of it
        except UnavailableError:
            raise
        except (InputError, StorageError) as error:
            shapes.pop(path, None)
            bad.append(str(error))
            continue
        columns[path] = needed_columns(shapes[path], source.columns, source.pass_through, shard.schema)
        good.append(shard)
    if bad and (not source.skip_bad_files or not good):
        listed = "\n  ".join(bad[:5]) + (f"\n  and {len(bad) - 5} more" if len(bad) > 5 else "")
        hint = "" if source.skip_bad_files else "\nMend or remove them, or leave them out with --skip-bad-files."
        raise InputError(f"{len(bad)} of {len(files)} input files cannot be used:\n  {listed}{hint}")
    if len(set(shapes.values())) > 1:
        odd = {shape: path for path, shape in shapes.items()}
        raise InputError(f"{source.input}: mixes rows of one query ({odd['nested']}) and of one pair ({odd['flat']})")
    scored = all(_has_scores(shard.schema, source.columns, shapes[shard.stored.path]) for shard in good)
    shape = next(iter(shapes.values()))
    repeated = _repeated(good, source.columns.query_id) if shape == "nested" else {}
    return CandidateInput(tuple(good), shape, columns, source.columns.candidates, (*bad, *missing), scored, repeated)


def _repeated(shards: list[ParquetShard], column: str) -> dict[str, np.ndarray]:
    seen = Values()
    with ThreadPoolExecutor(_READERS) as readers:
        for shard, ids in zip(shards, readers.map(lambda shard: _ids(shard, column), shards), strict=True):
            seen.add(shard.stored.path, np.arange(len(ids)), ids)
    return seen.repeats().rows


def _ids(shard: ParquetShard, column: str) -> pa.Array:
    try:
        return whole_column(shard, column)
    except UnavailableError:
        raise
    except StorageError:  # the unit that reads them will tell
        return pa.nulls(0, pa.string())


def _has_scores(schema: pa.Schema, columns: Columns, shape: Shape) -> bool:
    if shape == "flat":
        return columns.score in schema.names
    fields = schema.field(columns.candidates).type.value_type
    return any(fields.field(at).name == columns.score for at in range(fields.num_fields))
