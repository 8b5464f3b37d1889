"""A teacher's scores of a mined pool, by the rerank job itself: cached, resumable, one score a pair."""

import io
from dataclasses import dataclass

import pyarrow.parquet as pq

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.parquet import read_footers
from ray_rerank.cluster.run_folder import RunFolder, read_parts
from ray_rerank.cluster.storage import filesystem, join, stored_file, write_whole
from ray_rerank.jobs import rerank
from ray_rerank.jobs.outputs.markers import Scored
from ray_rerank.jobs.scoring.config import ExecutionConfig, Stage
from ray_rerank.operators.candidates.shards import shard_name
from ray_rerank.operators.scorers.registry import ScorerConfig


@dataclass(frozen=True, slots=True)
class PoolScores:
    """A teacher's raw logits by (query_id, doc_id), and what messages call them."""

    name: str
    by_pair: dict[tuple[str, str], float]


def teacher_scores(
    folder: str, shards: list[bytes], scorer: ScorerConfig, cache: str | None, execution: ExecutionConfig
) -> dict[tuple[str, str], float]:
    """Raw logits by (query_id, doc_id) of all pairs in the shards; one that the teacher fails on is not there.

    Args:
        folder: where pool and scores lie; a scoring that was stopped goes on there.

    Raises:
        UserError, ClusterError: as rerank does.
    """
    pool, scored = join(folder, "pool"), join(folder, "scored")
    system, _ = filesystem(pool)
    for number, data in enumerate(shards):
        shard = join(pool, shard_name(number, len(shards)))
        if not system.exists(filesystem(shard)[1]):  # written anew it would be another input to rerank
            write_whole(shard, data)
        elif damaged := read_footers([stored_file(shard)])[1]:
            raise StorageError(f"{damaged[0]}; remove {folder}, and the teacher scores anew")
    stage = Stage(scorer=scorer)
    config = rerank.Config(
        input=pool,
        output=scored,
        stages=(stage,),
        cache=cache,
        executor=execution.executor,
        address=execution.address,
        limits=execution.limits,
    )
    rerank.run(config, doing="scoring for the guard")
    scores = {}
    for _, part in read_parts(RunFolder(scored), Scored):
        for row in pq.read_table(io.BytesIO(part)).to_pylist():
            scores.update({(row["query_id"], one["doc_id"]): one["score"] for one in row["ranking"]})
    return scores
