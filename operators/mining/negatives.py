"""Negatives of one query: drawn from ranked lists, never a judged positive, never one document or text twice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from ray_rerank.operators.candidates.same_text import overlap, words_of
from ray_rerank.operators.mining.sources import RandomSource, Source

_AT_ONCE = 64  # random passages drawn at a time


@dataclass(frozen=True, slots=True)
class RankedRows:
    """A source's list for one query, best first.

    Attributes:
        rows: int64 of n, rows of the corpus; -1 for what it does not hold, whose rank stays taken.
        scores: float32 of n, the source's own.
    """

    rows: np.ndarray
    scores: np.ndarray


NO_LIST = RankedRows(np.zeros(0, np.int64), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True)
class Negative:
    """One negative: its row of the corpus, the source's score (NaN where it gives none), and which source."""

    row: int
    score: float
    source: int


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Which passages of a corpus count as the same text though they are not.

    Attributes:
        texts: the corpus, row by row.
        share: of the words of two passages, which they have in common at least.
    """

    texts: pa.Array
    share: float

    def words(self, row: int) -> frozenset[str]:
        """Of one passage."""
        return words_of(self.texts[row].as_py())


@dataclass(frozen=True, slots=True)
class DrawRules:
    """How the negatives of every query are drawn.

    Attributes:
        keys: `same_text.text_keys` of the corpus.
        factor: draw so many times each count, for a guard to choose from.
        near: leave out what is nearly the text of a forbidden passage or of one drawn before, too.
    """

    sources: Sequence[Source]
    keys: np.ndarray
    seed: int
    factor: int = 1
    near: NearDuplicates | None = None


def draw_negatives(
    rules: DrawRules, query_id: str, lists: Sequence[RankedRows], forbidden: Sequence[int]
) -> list[Negative]:
    """Draw each source's negatives, in the order of the sources; a passage that two have belongs to the first.

    A query's draw depends on the seed, its id, the source's settings and its list alone, not on other queries, nor on
    where a model or a run lies.

    Args:
        lists: one a source; not looked at for random ones.
        forbidden: rows of the corpus that are no negatives; passages with their texts are none either.

    Returns:
        Fewer than asked for where the ranks hold no more.
    """
    keys, near = rules.keys, rules.near
    taken = {int(keys[row]) for row in forbidden}
    known = [near.words(row) for row in forbidden] if near else []
    chosen: list[Negative] = []
    for number, (source, ranked) in enumerate(zip(rules.sources, lists, strict=True)):
        told = xxhash.xxh3_64_intdigest(source.model_dump_json(exclude={"encoder", "path"}).encode())
        draw = np.random.default_rng([rules.seed, xxhash.xxh3_64_intdigest(query_id.encode()), told])
        wanted = source.count * rules.factor
        for row, score in _in_order(source, ranked, len(keys), draw):
            if not wanted:
                break
            if int(keys[row]) in taken:
                continue
            if near:
                words = near.words(row)
                if any(overlap(words, other) >= near.share for other in known):
                    continue
                known.append(words)
            taken.add(int(keys[row]))
            chosen.append(Negative(row, score, number))
            wanted -= 1
    return chosen


def _in_order(
    source: Source, ranked: RankedRows, corpus: int, draw: np.random.Generator
) -> Iterator[tuple[int, float]]:
    """The source's passages in the order in which they are drawn."""
    if isinstance(source, RandomSource):
        for row in _random_rows(corpus, draw):
            yield row, float("nan")
        return
    first, last = source.ranks
    places = np.arange(first - 1, min(last, len(ranked.rows)))
    places = places[ranked.rows[places] >= 0]
    if source.draw == "random":
        places = draw.permutation(places)
    for place in places.tolist():
        yield int(ranked.rows[place]), float(ranked.scores[place])


def _random_rows(corpus: int, draw: np.random.Generator) -> Iterator[int]:
    """Every row once, by chance; a large corpus is not shuffled for the few that are asked for."""
    seen: set[int] = set()
    while len(seen) < corpus // 2:
        for row in draw.integers(corpus, size=_AT_ONCE).tolist():
            if row not in seen:
                seen.add(row)
                yield row
    left = np.array([row for row in range(corpus) if row not in seen], dtype=np.int64)
    yield from draw.permutation(left).tolist()
