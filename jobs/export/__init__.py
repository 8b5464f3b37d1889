"""`ray-rerank export`: labels in the form that a training tool reads."""

from ray_rerank.jobs.export.job import Config, run

__all__ = ["Config", "run"]
