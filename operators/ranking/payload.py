"""A unit between two steps: its candidates, its faults and what it has cost, as one buffer."""

import json
from dataclasses import dataclass

import pyarrow as pa

from ray_rerank.operators.inference.stats import ScoringStats


@dataclass(frozen=True, slots=True)
class UnitPayload:
    """What travels from reading through the stages to the commit.

    Attributes:
        candidates: as `ray_rerank.operators.candidates.read.read_candidates` gives them.
        faults: of REJECT_SCHEMA, from all steps so far.
        works: one a stage so far.
        pairs: candidates of the input, whole or faulty.
        computed: scores for the cache, (namespace, table, seconds) a stage.
        notes: what the report should tell of the unit besides.
    """

    candidates: pa.Table
    faults: pa.Table
    works: tuple[ScoringStats, ...]
    pairs: int
    computed: tuple[tuple[str, pa.Table, float], ...] = ()
    notes: tuple[str, ...] = ()

    def pack(self) -> bytes:
        """One Arrow stream after another, behind a line of JSON."""
        tables = [self.candidates, self.faults, *(table for _, table, _ in self.computed)]
        streams = [table_bytes(table) for table in tables]
        header = {
            "works": [work.as_dict() for work in self.works],
            "pairs": self.pairs,
            "computed": [(namespace, seconds) for namespace, _, seconds in self.computed],
            "notes": self.notes,
            "sizes": [len(stream) for stream in streams],
        }
        return b"\n".join([json.dumps(header).encode(), b"".join(streams)])

    @classmethod
    def unpack(cls, buffer: bytes) -> "UnitPayload":
        """The inverse of `pack`."""
        line, _, body = buffer.partition(b"\n")
        header = json.loads(line)
        view, tables = memoryview(body), []
        for size in header["sizes"]:
            tables.append(pa.ipc.open_stream(view[:size]).read_all())
            view = view[size:]
        candidates, faults, *computed = tables
        return cls(
            candidates,
            faults,
            tuple(ScoringStats(**work) for work in header["works"]),
            header["pairs"],
            tuple((name, table, seconds) for (name, seconds), table in zip(header["computed"], computed, strict=True)),
            tuple(header["notes"]),
        )


def table_bytes(table: pa.Table) -> bytes:
    """A table as one Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
