"""The scorers that a config can name. A new family is one file and one line here."""

from typing import Protocol

import numpy as np

from operators.cross_encoder import CrossEncoderConfig
from operators.work import Work

ScorerConfig = CrossEncoderConfig
"""What `scorer:` takes; with a second family this becomes a union told apart by `kind`."""


class Scorer(Protocol):
    """A loaded model that gives each pair a raw score, higher for more relevant."""

    def score(self, pairs: list[tuple[str, str]], work: Work | None = None) -> np.ndarray:
        """float32 of len(pairs), in their order."""
