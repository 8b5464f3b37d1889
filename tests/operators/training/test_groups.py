"""Groups of a query's rows: no row lost, none of another query, and what each loss reads."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.training.groups import group_rows, group_table
from ray_rerank.operators.training.losses import LOSSES

ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(-3, 3), st.sampled_from([None, 0.0, 1.0])), min_size=1, max_size=40
)


def table(rows: list[tuple[int, float, float | None]]) -> pa.Table:
    return pa.table(
        {
            "query": [f"q{owner}" for owner, _, _ in rows],
            "document": [f"d{number}" for number in range(len(rows))],
            "label": pa.array([label for _, label, _ in rows], pa.float32()),
            "relevant": pa.array([relevant for _, _, relevant in rows], pa.float32()),
        }
    )


@given(ROWS, st.sampled_from(["margin-mse", "listnet", "lambda"]), st.integers(2, 6), st.integers(0, 3))
def test_groups_are_of_one_query_and_hold_every_row_that_can_be_compared(
    rows: list[tuple[int, float, float | None]], name: str, size: int, seed: int
) -> None:
    pairs, loss = table(rows), LOSSES[name]  # type: ignore[index]
    groups = group_rows(pairs, loss, size, seed)
    again = group_rows(pairs, loss, size, seed)
    assert groups.rows.tolist() == again.rows.tolist()
    owners = np.array([owner for owner, _, _ in rows])
    for start, end in zip(groups.starts[:-1], groups.starts[1:], strict=True):
        part = groups.rows[start:end]
        assert len(set(owners[part])) == 1
        assert len(set(part.tolist())) == len(part)
        assert len(part) == 2 if loss.reads == "triplet" else 2 <= len(part) <= size
    comparable = {
        row
        for owner in set(owners)
        for row in np.flatnonzero(owners == owner)
        if len({rows[other][1] for other in np.flatnonzero(owners == owner)}) > 1
    }
    assert set(groups.rows.tolist()) == comparable


def test_the_positives_of_a_triplet_are_the_relevant_rows_else_the_highest_label() -> None:
    known = table([(0, 1.0, 1.0), (0, 5.0, 0.0), (0, 4.0, 0.0)])
    groups = group_rows(known, LOSSES["margin-mse"], 2, 0)
    triplets = group_table(known, groups, LOSSES["margin-mse"]).to_pylist()
    assert {(row["positive"], row["negative"], row["label"]) for row in triplets} == {
        ("d0", "d1", -4.0),
        ("d0", "d2", -3.0),
    }
    unknown = table([(0, 1.0, None), (0, 5.0, None), (0, 4.0, None)])
    triplets = group_table(unknown, group_rows(unknown, LOSSES["margin-mse"], 2, 0), LOSSES["margin-mse"]).to_pylist()
    assert {(row["positive"], row["negative"]) for row in triplets} == {("d1", "d0"), ("d1", "d2")}


def test_one_positive_stands_in_every_list_of_its_query() -> None:
    pairs = table([(0, 9.0, None), *((0, float(label), None) for label in range(7))])
    groups = group_rows(pairs, LOSSES["listnet"], 4, 0)
    lists = [row["documents"] for row in group_table(pairs, groups, LOSSES["listnet"]).to_pylist()]
    assert [len(documents) for documents in lists] == [4, 3, 3]
    assert all("d0" in documents for documents in lists)


def test_gains_below_zero_are_scaled_list_by_list() -> None:
    pairs = table([(0, -8.0, None), (0, 2.0, None), (0, -3.0, None)])
    groups = group_rows(pairs, LOSSES["lambda"], 4, 0)
    row = group_table(pairs, groups, LOSSES["lambda"]).to_pylist()[0]
    assert dict(zip(row["documents"], row["label"], strict=True)) == {"d0": 0.0, "d1": 1.0, "d2": 0.5}
    row = group_table(pairs, groups, LOSSES["listnet"]).to_pylist()[0]
    assert sorted(row["label"]) == [-8.0, -3.0, 2.0]


def test_the_listnet_loss_is_the_divergence_of_the_softmaxes_but_for_a_constant(cross_encoder: object) -> None:
    torch = pytest.importorskip("torch")
    from ray_rerank.operators.training.trainee import load_trainee

    trainee = load_trainee(str(cross_encoder), 64)
    trainee.model.eval()
    documents, labels = ["water a cactus", "bread rises", "cold dough"], torch.tensor([2.0, -1.0, 0.5])
    loss = LOSSES["listnet"].make(trainee)([["how to water"], [documents]], [labels])
    logits = torch.tensor(trainee.predict([("how to water", document) for document in documents]))
    wanted = labels.softmax(0)
    divergence = (wanted * (wanted.log() - logits.log_softmax(0))).sum()
    entropy = -(wanted * wanted.log()).sum()
    assert loss.item() == pytest.approx(float(divergence + entropy), abs=1e-5)
