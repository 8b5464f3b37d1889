"""Write a finished ranking as one TREC run file, part by part."""

import io

import pyarrow.parquet as pq

from cluster.output import Output, read_parts
from jobs.markers import Scored
from jobs.output_files import writing_file
from operators.faults import FaultLog
from operators.run_export import run_lines


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
