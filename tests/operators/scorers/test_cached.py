"""Behind a cache a scorer gives the same scores, runs only what is new, and hands that over."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.scorers.cached import CachedEvaluation, row_keys
from ray_rerank.operators.scorers.registry import FAMILIES, scorer_config
from support.models import ragged_pairs, write_bi_encoder, write_colbert, write_t5


class Memory:
    """A cache as a dictionary."""

    def __init__(self) -> None:
        self.known: dict[bytes, float] = {}

    def lookup(self, query: np.ndarray, document: np.ndarray) -> tuple[np.ndarray, float]:
        found = [self.known.get(q.tobytes() + d.tobytes(), np.nan) for q, d in zip(query, document, strict=True)]
        scores = np.array(found, dtype=np.float32)
        return scores, 0.5 * float((~np.isnan(scores)).sum())

    def add(self, query: np.ndarray, document: np.ndarray, score: np.ndarray) -> None:
        for q, d, s in zip(query, document, score, strict=True):
            self.known[q.tobytes() + d.tobytes()] = float(s)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, cross_encoder: Path) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    t5 = str(write_t5(folder / "t5"))
    made = {"cross-encoder": str(cross_encoder), "monot5": t5, "rankt5": t5, "duot5": t5}
    made["bi-encoder"] = str(write_bi_encoder(folder / "bi"))
    return made | {"colbert": str(write_colbert(folder / "colbert"))}


@pytest.mark.parametrize("kind", FAMILIES)
def test_cold_warm_and_half_warm_scores_are_the_same(models: dict[str, str], kind: str) -> None:
    pairs = sorted(set(ragged_pairs(24)))
    config = scorer_config({"kind": kind, "model": models[kind], "precision": "fp32"})
    plain = config.load().score(pairs)
    memory, scorer = Memory(), config.load()
    scorer.evaluate = cached = CachedEvaluation(scorer.evaluate, memory.lookup)

    cold = ScoringStats()
    np.testing.assert_allclose(scorer.score(pairs, cold), plain, atol=1e-5)
    assert cold.cached == 0 and cold.evaluations > 0
    fresh = cached.take()
    assert len(cached.take()[0]) == 0
    memory.add(*fresh)

    warm = ScoringStats()
    first = scorer.score(pairs, ScoringStats())
    np.testing.assert_array_equal(scorer.score(pairs, warm), first)
    assert warm.evaluations == 0 and warm.cached == len(memory.known) and warm.saved_seconds == warm.cached / 2
    assert len(cached.take()[0]) == 0, "nothing was new"

    for key in list(memory.known)[::2]:
        del memory.known[key]
    half = ScoringStats()
    np.testing.assert_allclose(scorer.score(pairs, half), plain, atol=1e-5)
    assert half.evaluations > 0 and half.cached == len(memory.known)


def test_keys_tell_texts_and_their_order_apart() -> None:
    rows = [("a", "b"), ("b", "a"), ("a", "b"), ("ab", ""), ("", "ab")]
    query, document = row_keys(rows)
    joined = [q.tobytes() + d.tobytes() for q, d in zip(query, document, strict=True)]
    assert joined[0] == joined[2] and len(set(joined)) == 4
    _, compared = row_keys([("q", "one", "two"), ("q", "two", "one"), ("q", "one", "two"), ("q", "onet", "wo")])
    assert len({row.tobytes() for row in compared}) == 3
    assert [part.shape for part in row_keys([])] == [(0, 16), (0, 16)]


def test_what_was_computed_before_a_failure_is_not_lost() -> None:
    def evaluate(rows: Sequence[tuple[str, ...]], work: ScoringStats) -> np.ndarray:
        if any(row[1] == "bad" for row in rows):
            raise ValueError("the model said no")
        return np.array([len(row[1]) for row in rows], dtype=np.float32)

    cached = CachedEvaluation(evaluate, Memory().lookup)
    cached([("q", "one")], ScoringStats())
    with pytest.raises(ValueError, match="said no"):
        cached([("q", "bad")], ScoringStats())
    assert cached.take()[2].tolist() == [3]


def identities(kind: str, model: str, **fields: Any) -> dict[str, Any]:
    return scorer_config({"kind": kind, "model": model, **fields}).evaluation_identity()


def test_how_comparisons_are_drawn_and_added_up_does_not_decide_a_comparison(models: dict[str, str]) -> None:
    plain = identities("duot5", models["duot5"])
    assert identities("duot5", models["duot5"], aggregation="min", fraction=0.5, seed=3) == plain
    assert identities("duot5", models["duot5"], form="document-names") != plain
