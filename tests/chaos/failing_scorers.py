"""A scorer family for the chaos suite: a cross-encoder that takes its time and, when asked to, fails like hardware."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from operators.cross_encoder import CrossEncoder, CrossEncoderConfig
from operators.model_config import ModelConfig
from operators.work import Work

POISON = "poisonpoison"
"""A text with this word ends the process that scores it."""


class FailingConfig(ModelConfig):
    """A cross-encoder; none of its failings is part of what a score is."""

    kind: Literal["failing"] = "failing"
    seconds: float = 0.0  # each call takes at least this long
    exits_once: str | None = None  # the process ends in its first call, where this file is not there yet
    poison: bool = False
    memory: int | None = None  # tokens of a batch, padding included, above which there is no memory

    def identity(self) -> dict[str, Any]:
        return CrossEncoderConfig(model=self.model, precision=self.precision).identity()

    def load(self, threads: int | None = None) -> "Failing":
        return Failing(self, threads)


class Failing(CrossEncoder):
    """The loaded model."""

    def __init__(self, config: FailingConfig, threads: int | None) -> None:
        plain = CrossEncoderConfig(model=config.model, precision=config.precision, batch_tokens=config.batch_tokens)
        self._failings = config
        super().__init__(plain, threads)
        self._run, self.evaluate = self.evaluate, self._fail_or_evaluate

    def _fail_or_evaluate(self, rows: Sequence[tuple[str, ...]], work: Work) -> np.ndarray:
        time.sleep(self._failings.seconds)
        if self._failings.exits_once and not Path(self._failings.exits_once).exists():
            Path(self._failings.exits_once).touch()
            os._exit(1)
        if self._failings.poison and any(POISON in text for row in rows for text in row):
            os._exit(1)
        return self._run(rows, work)

    def _start(self, ids: np.ndarray, segments: np.ndarray, mask: np.ndarray) -> Callable[[], np.ndarray]:
        if self._failings.memory and ids.size > self._failings.memory:
            raise MemoryError
        return super()._start(ids, segments, mask)
