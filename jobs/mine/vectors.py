"""Vectors of texts by an actor pool of encoders, kept as files: what was embedded once is there for the next job."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ray_rerank.cluster.attempts import alive
from ray_rerank.cluster.errors import ClusterError
from ray_rerank.cluster.executors import open_executor
from ray_rerank.cluster.parquet import parquet_bytes, read_footers
from ray_rerank.cluster.run_folder import RunFolder, commit, commit_failure, done_markers, read_manifest, read_part
from ray_rerank.cluster.steps import Step
from ray_rerank.cluster.storage import absolute, filesystem, fingerprint, join, list_files, write_whole
from ray_rerank.cluster.units import Unit, load_plan, plan_by_rows, read_rows
from ray_rerank.jobs.outputs.markers import Embedded
from ray_rerank.jobs.scoring.claim import RunClaim, claim_run
from ray_rerank.jobs.scoring.config import ActorPool, ExecutionConfig, Stage
from ray_rerank.jobs.scoring.plan import local_cpus, pool_sizes
from ray_rerank.jobs.scoring.run import Pass, Steps, do_pass
from ray_rerank.operators.inference.sentence_transformers import Side
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.ranking.payload import table_bytes
from ray_rerank.operators.scorers.bi_encoder import BiEncoderConfig

_MOST, _LEAST = 8192, 256  # texts a unit
_NO_FAULTS = pa.schema([("reason", pa.string())]).empty_table()


@dataclass(frozen=True, slots=True)
class Vectors:
    """Embedded texts in files of at most 8,192 vectors.

    Attributes:
        output: where they lie.
        units: in the order of the texts.
        markers: of these units, by name.
        similarity: how the encoder compares them.
    """

    output: RunFolder
    units: list[Unit]
    markers: Mapping[str, Embedded]
    similarity: str

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 of (a part's texts, dimension), one part after another.

        Raises:
            StorageError: a part cannot be read, or is not what was written.
        """
        for unit in self.units:
            part = read_part(self.output, unit, self.markers[unit.name])
            column = pq.read_table(io.BytesIO(part))["vector"].combine_chunks()
            yield column.flatten().to_numpy().reshape(len(column), -1)


@dataclass(frozen=True, slots=True)
class VectorStore:
    """Where vectors are kept, and where those that are missing are computed.

    Attributes:
        folder: URI; vectors are below it in folders named by encoder, side and texts.
    """

    folder: str
    execution: ExecutionConfig
    pool: ActorPool = field(default_factory=ActorPool)


def embed(texts: pa.Array, side: Side, encoder: BiEncoderConfig, store: VectorStore) -> Vectors:
    """Embed texts, or find them embedded by the same encoder; an embedding that was stopped goes on.

    Args:
        texts: strings, in order.

    Raises:
        ModelError: the encoder cannot be found or is none.
        ClusterError: the storage or the cluster fails, or some texts cannot be embedded.
    """
    identity = encoder.identity() | {"side": side, "texts": _content(texts), "count": len(texts)}
    name = fingerprint(repr(sorted(identity.items(), key=str)).encode())
    folder, pool, execution = absolute(store.folder), store.pool, store.execution
    source, output = join(folder, f"{name}.texts.parquet"), RunFolder(join(folder, name))
    done = done_markers(output, Embedded)
    if (units := _finished(output, done, len(texts))) is None:
        units = _plan(source, texts)
        claim_run(RunClaim("mine", output, identity, units))
    left = [unit for unit in units if unit.name not in done]
    if left:
        stages = (Stage(scorer=encoder, actors=pool.actors, cpus=pool.cpus, gpus=pool.gpus),)
        steps = Steps(_read, lambda _, cpus: _Load(encoder, encoder.identity(), side, cpus), _Commit(output))
        with open_executor(execution.executor, execution.address, cpus=local_cpus(stages)) as executor:
            sizes = pool_sizes(stages, executor, len(left))
            embedding = Pass("embedding", left, steps, done=len(done), items="texts")
            failed = [said for said in do_pass(embedding, sizes, executor, execution) if "reason" in said]
        if failed:
            raise ClusterError(
                f"{output.uri}: {len(failed)} of {len(units)} units of texts failed: {failed[0]['reason']}"
            )
        done = done_markers(output, Embedded)
    similarity = next(iter(done.values())).similarity if done else "cosine"
    return Vectors(output, units, done, similarity)


def _finished(output: RunFolder, done: Mapping[str, Any], count: int) -> list[Unit] | None:
    """The units of vectors that are all there, wherever their folder lay when they were made: its name says of what."""
    if read_manifest(output) is None:
        return None
    plan = output.internal("plan.parquet")
    units = load_plan(plan)
    if [0, *(unit.stop for unit in units)] != [*(unit.start for unit in units), count]:
        raise ClusterError(f"{plan}: is damaged: its units are not those of {count:,} texts; remove {output.uri}")
    return units if all(unit.name in done for unit in units) else None


def _content(texts: pa.Array) -> str:
    told = xxhash.xxh3_128()
    for start in range(0, len(texts), _MOST):
        for text in texts[start : start + _MOST].to_pylist():
            data = text.encode()
            told.update(len(data).to_bytes(8, "little") + data)
    return told.hexdigest()


def _plan(source: str, texts: pa.Array) -> list[Unit]:
    """The texts as a file, written once, and its units: some 64, so that all actors have work."""
    size = min(max(len(texts) // 64, _LEAST), _MOST)
    system, path = filesystem(source)
    if not system.exists(path):
        write_whole(source, parquet_bytes(pa.table({"text": texts}), size))
    shards, bad = read_footers(list_files(source, (".parquet",)))
    if bad:
        raise ClusterError(f"{bad[0]}: remove it")
    return plan_by_rows(shards, "text", size)


def _read(unit: Unit) -> bytes:
    return table_bytes(read_rows(unit, ["text"]))


@dataclass(frozen=True, slots=True)
class _Load:
    """Loads the encoder inside its actor, and embeds units."""

    encoder: BiEncoderConfig
    planned: dict[str, Any]
    side: Side
    cpus: float

    def __call__(self) -> Step:
        loaded = self.encoder.load_planned(self.planned, threads=max(int(self.cpus), 1))

        def step(_: Unit, payload: bytes) -> bytes:
            texts = pa.ipc.open_stream(payload).read_all()["text"].to_pylist()
            distinct = list(dict.fromkeys(texts))
            place = {text: row for row, text in enumerate(distinct)}
            vectors = loaded.embed(distinct, self.side, ScoringStats(alive=alive))[[place[text] for text in texts]]
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            told = {"similarity": loaded.similarity}
            return table_bytes(pa.table({"vector": column}).replace_schema_metadata(told))

        return step


@dataclass(frozen=True, slots=True)
class _Commit:
    """Writes a unit's vectors, or why there are none."""

    output: RunFolder

    def __call__(self, unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
        if payload is None or failure is not None:
            return commit_failure(self.output, unit, failure or "nothing arrived")
        table = pa.ipc.open_stream(payload).read_all()
        facts = {"pairs": table.num_rows, "similarity": table.schema.metadata[b"similarity"].decode()}
        return commit(self.output, unit, table, _NO_FAULTS, facts)
