"""A unit between two steps: its candidates, its faults and what it has cost, as one buffer."""

import json
from dataclasses import dataclass

import pyarrow as pa

from operators.work import Work


@dataclass(frozen=True, slots=True)
class Parcel:
    """What travels from reading through the stages to the commit.

    Attributes:
        candidates: as `operators.candidates.read_candidates` gives them.
        faults: of FAULT_SCHEMA, from all steps so far.
        works: one a stage so far.
        pairs: candidates of the input, whole or faulty.
    """

    candidates: pa.Table
    faults: pa.Table
    works: tuple[Work, ...]
    pairs: int

    def pack(self) -> bytes:
        """One Arrow stream after another, behind a line of JSON."""
        header = {"works": [work.as_dict() for work in self.works], "pairs": self.pairs}
        streams = [_stream(self.candidates), _stream(self.faults)]
        header["sizes"] = [len(stream) for stream in streams]
        return b"\n".join([json.dumps(header).encode(), streams[0] + streams[1]])

    @classmethod
    def unpack(cls, buffer: bytes) -> "Parcel":
        """The inverse of `pack`."""
        line, _, body = buffer.partition(b"\n")
        header = json.loads(line)
        first = header["sizes"][0]
        view = memoryview(body)
        return cls(
            pa.ipc.open_stream(view[:first]).read_all(),
            pa.ipc.open_stream(view[first:]).read_all(),
            tuple(Work(**work) for work in header["works"]),
            header["pairs"],
        )


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
