"""`ray-rerank compare`: quality, latency and size of several scorers on one candidate set."""

from ray_rerank.jobs.compare.config import Config
from ray_rerank.jobs.compare.job import run

__all__ = ["Config", "run"]
