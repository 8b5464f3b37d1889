"""`ray-rerank train`: train a cross-encoder, or distil a teacher into a student."""

from ray_rerank.jobs.train.job import Config, run

__all__ = ["Config", "run"]
