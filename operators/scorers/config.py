"""What the config of every scorer says: which model, how exact, how much at a time."""

import functools
import platform
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ray_rerank.operators.errors import ModelError, UserError, reason_of
from ray_rerank.operators.location import Location
from ray_rerank.operators.models.device import Precision

ScoreMeaning = Literal["logit", "log-probability", "other"]
Identity = TypeVar("Identity", bound=Callable[..., dict[str, Any]])


def whatever_is_raised_names_the_model(identity: Identity) -> Identity:
    """For what looks into a checkpoint: code of transformers raises what nobody foresaw where one is odd."""

    @functools.wraps(identity)
    def named(self: "ModelConfig") -> dict[str, Any]:
        try:
            return identity(self)
        except (UserError, MemoryError):
            raise
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise ModelError(
                f"{self.model}: cannot be read as {self.__class__.__name__.removesuffix('Config')}: "
                f"{type(error).__name__}: {reason_of(error)} ({Path(where.filename).name}:{where.lineno})"
            ) from error

    return named  # type: ignore[return-value]


class ModelConfig(BaseModel):
    """The fields that all scorer families share."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True, allow_inf_nan=False
    )

    pairwise: ClassVar[bool] = False
    """Whether an evaluation compares two documents; else it scores one."""
    title: ClassVar[str] = ""
    """The family's name in pictures; default: its `kind`."""
    colour: ClassVar[str] = "#555555"
    marker: ClassVar[str] = "h"
    """How pictures draw the family: a colour of Okabe and Ito (2008) and a shape of matplotlib's."""

    model: Location = Field(description="a directory with safetensors, a URI of one, or a hub id")
    revision: str | None = Field(None, description="the hub revision")
    max_length: int | None = Field(None, ge=8, description="tokens the model reads at a time")
    precision: Precision = Field("auto", description="fp32 is the reference; auto takes what the device is fast at")
    batch_tokens: int | None = Field(None, ge=1, description="tokens a batch, padding included")

    @property
    def score_meaning(self) -> ScoreMeaning:
        """What a score is: `logit` and `log-probability` become a share of one, `other` does not."""
        return "other"

    def identity(self) -> dict[str, Any]:
        """All that decides a score, and nothing else (not where the model lies, nor the batch size)."""
        raise NotImplementedError

    def evaluation_identity(self) -> dict[str, Any]:
        """All that decides one evaluation of the model: a pair's score, or a comparison's in a pairwise scorer."""
        return self.identity()

    def load(self, threads: int | None = None) -> Any:
        """Load the model onto this process's device."""
        raise NotImplementedError

    def load_planned(self, planned: dict[str, Any], threads: int | None = None) -> Any:
        """Load the model on a worker, which may see another at the same place than the driver.

        Args:
            planned: the identity that the job was planned with.

        Raises:
            ModelError: it cannot be loaded, or is another than was planned.
        """
        loaded = self.load(threads)
        found = self.identity()
        if odd := sorted(name for name in {*found, *planned} if found.get(name) != planned.get(name)):
            raise ModelError(
                f"{self.model}: on {platform.node()} this is another model than the job was planned with "
                f"({', '.join(odd)} differ); all nodes must see the same files, and nobody may replace them meanwhile"
            )
        return loaded

    @field_validator("model")
    @classmethod
    def _directories_are_absolute(cls, model: str) -> str:
        """A worker may run in another directory than the driver."""
        folder = Path(model).expanduser()
        return str(folder.absolute()) if folder.is_dir() else model
