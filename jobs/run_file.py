"""Write a finished ranking as one TREC run file, part by part."""

import io

import pyarrow.parquet as pq

from ray_rerank.cluster.run_folder import Output, read_parts
from ray_rerank.jobs.outputs.files import writing_file
from ray_rerank.jobs.outputs.markers import Scored
from ray_rerank.operators.formats.trec_export import run_lines
from ray_rerank.operators.rejects import FaultLog


def write_run_file(output: Output, target: str) -> FaultLog:
    """Write the done units of an output, in input order, as `writing_file` does.

    Returns:
        The documents that a run cannot name.

    Raises:
        StorageError: a part cannot be read or is damaged, or the file cannot be written.
    """
    faults = FaultLog()
    with writing_file(target) as sink:
        for _, part in read_parts(output, Scored):
            sink.write(run_lines(pq.read_table(io.BytesIO(part)), target, faults).encode())
    return faults
