"""`ray-rerank mine`: hard negatives for queries and their positives."""

from ray_rerank.jobs.mine.job import Config, run

__all__ = ["Config", "run"]
