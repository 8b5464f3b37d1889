"""Everything that needs no cluster: formats, scorers, mining, training, evaluation. Nothing here imports Ray.

The names below are the public API of this package; anything else may change.
"""

from ray_rerank.operators.errors import ConfigError, InputError, MissingExtraError, ModelError, UserError
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.scorers.base import Pointwise, Scorer
from ray_rerank.operators.scorers.bi_encoder import BiEncoderConfig
from ray_rerank.operators.scorers.colbert import ColBERTConfig
from ray_rerank.operators.scorers.config import ModelConfig
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from ray_rerank.operators.scorers.duot5 import DuoT5Config
from ray_rerank.operators.scorers.monot5 import MonoT5Config
from ray_rerank.operators.scorers.rankt5 import RankT5Config
from ray_rerank.operators.scorers.registry import scorer_config
from ray_rerank.operators.scorers.score_batch import ScoreBatch

__all__ = [
    "BiEncoderConfig",
    "ColBERTConfig",
    "ConfigError",
    "CrossEncoderConfig",
    "DuoT5Config",
    "InputError",
    "MissingExtraError",
    "ModelConfig",
    "ModelError",
    "MonoT5Config",
    "Pointwise",
    "RankT5Config",
    "ScoreBatch",
    "Scorer",
    "ScoringStats",
    "UserError",
    "scorer_config",
]
