"""A scorer is a plain callable over batches: numpy dictionaries in and out."""

from pathlib import Path

import numpy as np
import pytest

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from ray_rerank.operators.scorers.score_batch import ScoreBatch

BATCH = {
    "qid": np.array([1, 1, 2]),
    "question": np.array(["how to water", "how to water", "what is bread"], dtype=object),
    "passage": np.array(["a cactus", "the soil", "dough rises"], dtype=object),
}


def test_it_adds_the_scores_and_keeps_the_rest(cross_encoder: Path) -> None:
    values = {"kind": "cross-encoder", "model": str(cross_encoder), "precision": "fp32"}
    scored = ScoreBatch(values, query="question", text="passage", score="logit")(BATCH)
    pairs = list(zip(BATCH["question"], BATCH["passage"], strict=True))
    expected = CrossEncoderConfig(model=str(cross_encoder), precision="fp32").load().score(pairs)
    np.testing.assert_allclose(scored["logit"], expected, atol=1e-6)
    assert scored["logit"].dtype == np.float32
    assert scored["qid"] is BATCH["qid"]


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        ({"question": BATCH["question"]}, "no column 'passage'"),
        (BATCH | {"passage": np.array(["a", None, "b"], dtype=object)}, "row 1 of the batch: not text but NoneType"),
    ],
)
def test_what_cannot_be_scored_is_said(cross_encoder: Path, batch: dict[str, np.ndarray], told: str) -> None:
    udf = ScoreBatch({"model": str(cross_encoder)}, query="question", text="passage")
    with pytest.raises(InputError, match=told):
        udf(batch)


def test_in_a_ray_data_pipeline_of_ones_own(cross_encoder: Path, ray_here: None) -> None:
    import ray.data

    rows = [{"query": "how to water", "text": text} for text in ("a cactus", "the soil", "bread", "stars shine")]
    data = ray.data.from_items(rows).map_batches(
        ScoreBatch,
        fn_constructor_args=({"model": str(cross_encoder), "precision": "fp32"},),
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=1,
        batch_size=3,
    )
    found = {row["text"]: row["score"] for row in data.take_all()}
    scorer = CrossEncoderConfig(model=str(cross_encoder), precision="fp32").load()
    for row in rows:
        assert found[row["text"]] == pytest.approx(scorer.score([(row["query"], row["text"])])[0], abs=1e-5)
