"""Scorers for the chaos suite that take their time and, when asked to, fail like hardware."""

import os
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.scorers.base import Pointwise
from ray_rerank.operators.scorers.config import ModelConfig
from ray_rerank.operators.scorers.cross_encoder import CrossEncoder, CrossEncoderConfig

POISON = "poisonpoison"
"""A text with this word ends the process that scores it."""

CHECKSUM = "checksum"
"""In place of a model: scores that take no weights, so that an actor starts in a third of the time."""


class FailingConfig(ModelConfig):
    """A cross-encoder, or checksums; none of its failings is part of what a score is."""

    kind: Literal["failing"] = "failing"
    seconds: float = 0.0  # each call takes at least this long
    exits_once: str | None = None  # the process ends in its first call, where this file is not there yet
    poison: bool = False
    memory: int | None = None  # tokens of a cross-encoder's batch, padding included, above which there is no memory

    def identity(self) -> dict[str, Any]:
        return {"kind": CHECKSUM} if self.model == CHECKSUM else self._plain().identity()

    def load(self, threads: int | None = None) -> Pointwise:
        scorer = Checksum() if self.model == CHECKSUM else Limited(self._plain(), threads, self.memory)
        scorer.evaluate = _Failing(self, scorer.evaluate)
        return scorer

    def _plain(self) -> CrossEncoderConfig:
        return CrossEncoderConfig(model=self.model, precision=self.precision, batch_tokens=self.batch_tokens)


class Checksum(Pointwise):
    """A score that is a function of the two texts."""

    precision = "fp32"

    def evaluate(self, rows: Sequence[tuple[str, ...]], work: ScoringStats) -> np.ndarray:
        work.evaluations += len(rows)
        return np.array([zlib.crc32("\0".join(row).encode()) / 2**32 for row in rows], np.float32)


class Limited(CrossEncoder):
    """A cross-encoder on a device with little memory."""

    def __init__(self, config: CrossEncoderConfig, threads: int | None, memory: int | None) -> None:
        self._memory: int | None = None  # the few rows that it proves itself with would teach it what fits
        super().__init__(config, threads)
        self._memory = memory

    def _start(self, ids: np.ndarray, segments: np.ndarray, mask: np.ndarray) -> Callable[[], np.ndarray]:
        if self._memory and ids.size > self._memory:
            raise MemoryError
        return super()._start(ids, segments, mask)


class _Failing:
    """What a scorer evaluates, with what the config says going wrong."""

    def __init__(self, config: FailingConfig, evaluate: Callable[..., np.ndarray]) -> None:
        self._failings, self._run = config, evaluate

    def __call__(self, rows: Sequence[tuple[str, ...]], work: ScoringStats) -> np.ndarray:
        time.sleep(self._failings.seconds)
        if self._failings.exits_once and not Path(self._failings.exits_once).exists():
            Path(self._failings.exits_once).touch()
            os._exit(1)
        if self._failings.poison and any(POISON in text for row in rows for text in row):
            os._exit(1)
        return self._run(rows, work)
