"""`ray-rerank label`: teacher scores for distillation."""

from ray_rerank.jobs.label.job import Config, run

__all__ = ["Config", "run"]
