"""What scoring cost: the counts that a report adds up over units."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class ScoringStats:
    """Running totals of one or more scoring calls.

    Attributes:
        pairs: (query, document) pairs asked for.
        evaluations: rows the model was run on, duplicates removed.
        tokens: tokens of these rows, special tokens included.
        padded_tokens: the same rows as the model saw them, padding included.
        cached: rows whose score came from the cache, not from the model.
        saved_seconds: what computing these took when it was done.
        truncated: evaluated pairs that lost tokens to max_length.
        batches: forward passes.
        halvings: times that a batch was cut for want of memory.
        seconds: wall-clock time of scoring, tokenising included.
        alive: not a count: called after each batch, for whoever waits.
    """

    pairs: int = 0
    evaluations: int = 0
    cached: int = 0
    saved_seconds: float = 0.0
    tokens: int = 0
    padded_tokens: int = 0
    truncated: int = 0
    batches: int = 0
    halvings: int = 0
    seconds: float = 0.0
    alive: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    def add(self, other: "ScoringStats") -> None:
        """Add another total to this one."""
        for name, count in other.as_dict().items():
            setattr(self, name, getattr(self, name) + count)

    def as_dict(self) -> dict[str, float]:
        """Plain numbers for JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "alive"}

    @property
    def padding_share(self) -> float:
        """The part of the model's work that was padding, 0 to 1."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0
