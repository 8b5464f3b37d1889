"""On TREC DL 2020 with the real MiniLM-L12: the reference's logits and its nDCG@10, through the real jobs."""

import json
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pytest

from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from support.command import execute

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("ray_here")]


@pytest.mark.parametrize(("max_length", "ndcg"), [(512, 0.6676), (64, None)])
def test_scores_and_measures_equal_the_references(
    tmp_path: Path, shared: Path, max_length: int, ndcg: float | None
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    import torch

    data, model = shared / "data" / "dl20", str(shared / "models" / "ms-marco-minilm-l12")
    texts = ["--queries", str(data / "queries.tsv"), "--passages", str(data / "passages.tsv")]
    candidates, output = str(tmp_path / "candidates"), str(tmp_path / "reranked")
    assert execute(["prepare", "--run", str(data / "run.bm25.trec"), *texts, "--output", candidates]) == ExitCode.DONE
    stages = json.dumps([{"scorer": {"model": model, "max_length": max_length, "precision": "fp32"}}])
    job = ["rerank", "--input", candidates, "--output", output, "--include-text", "--stages", stages]
    assert execute(job) == ExitCode.DONE

    rows = pads.dataset(output).to_table().to_pylist()
    pairs = [(row["query"], candidate["text"]) for row in rows for candidate in row["ranking"]]
    scores = np.array([candidate["score"] for row in rows for candidate in row["ranking"]])
    assert len(pairs) == 5400
    reference = sentence_transformers.CrossEncoder(model, max_length=max_length, device="cpu")
    reference.model.float()
    expected = reference.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    np.testing.assert_allclose(scores, expected, atol=1e-4)

    sample = np.random.default_rng(0).choice(len(pairs), 100, replace=False)
    scorer = CrossEncoderConfig(model=model, max_length=max_length, precision="fp32").load()
    alone = np.array([scorer.score([pairs[index]])[0] for index in sample])
    np.testing.assert_allclose(alone, scores[sample], atol=1e-5)

    if ndcg is not None:
        metrics = tmp_path / "metrics.json"
        judged = ["--ranking", output, "--qrels", str(data / "qrels.txt"), "--measures", "nDCG@10"]
        assert execute(["evaluate", *judged, "--json", str(metrics)]) == ExitCode.DONE
        figures = json.loads(metrics.read_text())["nDCG@10"]
        assert (round(figures["reranked"], 4), round(figures["first_stage"], 4)) == (ndcg, 0.4796)
