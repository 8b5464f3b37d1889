"""Write a finished ranking as one TREC run file, part by part."""

import io

import pyarrow.parquet as pq

from cluster.output import Output, done_markers
from cluster.storage import open_read, writing_whole
from cluster.units import load_plan
from operators.faults import FaultLog
from operators.run_export import run_lines


def write_run_file(output: Output, target: str) -> FaultLog:
    """Write the done units of an output, in input order; the file is whole or absent.

    Returns:
        The documents that a run cannot name.

    Raises:
        StorageError: a part cannot be read, or the file cannot be written.
    """
    done, faults = done_markers(output), FaultLog()
    with writing_whole(target) as sink:
        for unit in load_plan(output.run("plan.parquet")):
            if unit.name in done:
                with open_read(output.part(unit)) as part:
                    sink.write(run_lines(pq.read_table(io.BytesIO(part.read())), target, faults).encode())
    return faults
