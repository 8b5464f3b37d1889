"""What each chaos case found, held against what it must have found."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.dataset as pads
import pytest

Rows = dict[tuple[str, str], float]


@dataclass
class Books:
    """A line a case: trials, rows expected, rows found, rows found twice."""

    lines: dict[str, list[int]] = field(default_factory=dict)

    def enter(self, case: str, expected: Rows, output: Path, left_out: int = 0) -> None:
        """Hold an output against the rows that it must have, and write the line.

        Args:
            left_out: rows of `expected` that may not be there.
        """
        table = pads.dataset(str(output)).to_table().to_pylist()
        pairs = [((row["query_id"], c["doc_id"]), c["score"]) for row in table for c in row["ranking"]]
        counts = Counter(name for name, _ in pairs)
        twice = sum(count - 1 for count in counts.values())
        line = self.lines.setdefault(case, [0, 0, 0, 0])
        for at, number in enumerate([1, len(expected) - left_out, len(pairs), twice]):
            line[at] += number
        assert twice == 0
        assert len(counts) == len(expected) - left_out
        for name, score in pairs:
            assert score == pytest.approx(expected[name], abs=1e-5), name

    def lines_of_text(self) -> list[str]:
        """The table."""
        head = f"{'case':<36}{'trials':>8}{'rows expected':>15}{'rows found':>12}{'duplicates':>12}"
        return [head, *(f"{name:<36}{a:>8}{b:>15}{c:>12}{d:>12}" for name, (a, b, c, d) in self.lines.items())]
