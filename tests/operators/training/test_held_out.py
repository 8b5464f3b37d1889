"""What decides which weights are best: nDCG@10 on judged candidates, else the order of held-out pairs."""

import numpy as np
import pyarrow as pa
import pytest

from ray_rerank.operators.candidates.schema import CANDIDATE_SCHEMA
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.rejects import Report
from ray_rerank.operators.training.best_weights import BEST, BestWeights, best_step, evaluations
from ray_rerank.operators.training.held_out import JudgedCandidates, LabelledPairs, judged_candidates
from ray_rerank.operators.training.pair_files import SCHEMA
from support.candidates import rows

NESTED = pa.Table.from_pylist(rows(3, 4), schema=CANDIDATE_SCHEMA)


def flat() -> pa.Table:
    lines = [
        {"query_id": row["query_id"], "query": row["query"], **candidate}
        for row in NESTED.to_pylist()
        for candidate in row["candidates"]
    ]
    return pa.Table.from_pylist(lines)


@pytest.mark.parametrize("table", [NESTED, flat()], ids=["nested", "flat"])
def test_candidates_of_either_shape_are_measured_by_ndcg_on_their_judged_queries(table: pa.Table) -> None:
    judged = judged_candidates(
        [("f", table)], {"q0": {"d0-3": 1}, "q2": {"d2-0": 1}, "absent": {"x": 1}}, "f", Report()
    )
    assert set(judged.table["query_id"].to_pylist()) == {"q0", "q2"}
    last_first = judged.figures(np.arange(8, dtype=np.float64))["nDCG@10"]
    first_first = judged.figures(-np.arange(8, dtype=np.float64))["nDCG@10"]
    assert last_first == pytest.approx((1 + 1 / np.log2(5)) / 2)
    assert first_first == pytest.approx(last_first)
    assert judged.figures(np.array([0, 0, 0, 1.0, 1, 0, 0, 0]))["nDCG@10"] == 1


def test_equal_scores_stand_in_first_stage_order() -> None:
    judged = judged_candidates([("f", NESTED)], {"q0": {"d0-0": 1}}, "f", Report())
    assert judged.figures(np.zeros(4))["nDCG@10"] == 1


def test_what_is_left_out_of_the_candidates_is_told() -> None:
    report = Report()
    empty = NESTED.slice(0, 1).set_column(0, "query_id", pa.array(["other"]))
    empty = empty.set_column(1, "query", pa.array([" "]))
    judged = judged_candidates([("f", NESTED), ("g", NESTED), ("h", empty)], {"q0": {"d0-0": 1}}, "f", report)
    assert len(judged.pairs) == NESTED.to_pylist()[0]["candidates"].__len__()
    assert [note.partition(",")[0] for note in report.notes] == [
        "left out of g: 3 rows whose query_id stood before",
        "left out of h: 1 rows or candidates",
    ]


def test_candidates_without_judgements_are_refused() -> None:
    with pytest.raises(InputError, match="none of its 3 queries"):
        judged_candidates([("f", NESTED)], {"absent": {"x": 1}}, "f", Report())


def labelled(labels: list[float]) -> pa.Table:
    columns = [["1"] * len(labels), ["q"] * len(labels), [f"d{n}" for n in range(len(labels))], labels, labels]
    return pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA)


def test_the_order_decides_and_without_two_labels_in_a_query_the_loss() -> None:
    assert LabelledPairs(labelled([0.0, 1.0]), "bce").decides == "ordered"
    assert LabelledPairs(labelled([1.0, 1.0]), "bce").decides == "-loss"
    figures = LabelledPairs(labelled([0.0, 1.0]), "lambda").figures(np.array([1.0, 2.0]))
    assert figures["loss"] is None
    assert figures["ordered"] == 1


def test_the_best_weights_are_kept_over_restarts_and_of_equals_the_later(
    cross_encoder: object, tmp_path: object
) -> None:
    torch = pytest.importorskip("torch")
    from ray_rerank.operators.training.best_weights import load_weights
    from ray_rerank.operators.training.trainee import load_trainee

    trainee = load_trainee(str(cross_encoder), 64)
    judged = judged_candidates([("f", NESTED)], {"q0": {"d0-0": 1}}, "f", Report())
    values = iter([0.9, 0.3, 0.5, 0.5, 0.4])

    class Watched(JudgedCandidates):
        def figures(self, scores: np.ndarray) -> dict[str, float | None]:
            return {"nDCG@10": next(values)}

    for step in (0, 10, 20, 30, 40):
        with torch.no_grad():
            trainee.model.classifier.bias.fill_(float(step))
        BestWeights(Watched(judged.table, judged.grades), tmp_path, 8)(trainee, step)  # type: ignore[arg-type]
    assert best_step(tmp_path) == 30  # type: ignore[arg-type]
    assert load_weights(trainee, tmp_path / BEST) == 30  # type: ignore[operator]
    assert float(trainee.model.classifier.bias.detach()) == 30
    assert [figures["nDCG@10"] for figures in evaluations(tmp_path).values()] == [0.9, 0.3, 0.5, 0.5, 0.4]  # type: ignore[arg-type]
