"""Training pairs: every form they come in, what is left out of them, and how they are split."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.training.pair_files import Target
from ray_rerank.operators.training.pairs import TrainingPairs, read_training_pairs
from ray_rerank.operators.training.split import split_by_query

ROWS = [("a kiln", "fires clay", 1.5), ("a kiln", "a loaf of bread", -3.0), ("yeast", "makes gas", 2.0)]


def columns(document: str = "document", label: str = "label") -> pa.Table:
    query, text, value = zip(*ROWS, strict=True)
    return pa.table({"query": query, document: text, label: value})


def read(path: Path, target: Target | None = None) -> TrainingPairs:
    with path.open("rb") as content:
        return read_training_pairs([(str(path), content)], str(path), target)


def rows(table: pa.Table) -> list[tuple[str, str, float]]:
    return [(row["query"], row["document"], row["label"]) for row in table.to_pylist()]


@pytest.mark.parametrize(("document", "label"), [("document", "label"), ("text", "score"), ("passage", "label")])
def test_parquet_tsv_and_jsonl_give_the_same_pairs(tmp_path: Path, document: str, label: str) -> None:
    pq.write_table(columns(document, label), tmp_path / "pairs.parquet")
    lines = [f"query\t{document}\t{label}", *(f"{query}\t{text}\t{value}" for query, text, value in ROWS)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n")
    objects = [json.dumps({"query": query, document: text, label: value}) for query, text, value in ROWS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(objects))
    for name in ("pairs.parquet", "pairs.tsv", "pairs.jsonl"):
        assert rows(read(tmp_path / name).table) == ROWS


def test_ids_that_are_fractions_are_refused(tmp_path: Path) -> None:
    pq.write_table(columns().append_column("query_id", pa.array([1.0, 1.0, 2.0])), tmp_path / "pairs.parquet")
    with pytest.raises(InputError, match="column query_id holds fractions; an id is a string or a whole number"):
        read(tmp_path / "pairs.parquet")


def test_quotes_in_tsv_are_text(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text('query\tdocument\tlabel\nthe 5" kiln\t"hot\t1\n')
    assert rows(read(tmp_path / "pairs.tsv").table) == [('the 5" kiln', '"hot', 1.0)]


def test_a_ranking_with_its_texts_gives_raw_scores_as_labels(tmp_path: Path) -> None:
    ranking = [
        {
            "query_id": "1",
            "query": "a kiln",
            "ranking": [
                {"doc_id": "x", "score": 1.5, "text": "fires clay"},
                {"doc_id": "y", "score": -3.0, "text": "a loaf of bread"},
            ],
        },
        {"query_id": "2", "query": "nothing", "ranking": []},
        {"query_id": "3", "query": "yeast", "ranking": [{"doc_id": "z", "score": 2.0, "text": "makes gas"}]},
    ]
    pq.write_table(pa.Table.from_pylist(ranking), tmp_path / "part-0.parquet")
    assert rows(read(tmp_path / "part-0.parquet").table) == ROWS


def test_a_ranking_without_texts_is_refused_with_the_flag_that_writes_them(tmp_path: Path) -> None:
    ranking = [{"query": "a kiln", "ranking": [{"doc_id": "x", "score": 1.5}]}]
    pq.write_table(pa.Table.from_pylist(ranking), tmp_path / "part-0.parquet")
    with pytest.raises(InputError, match="--include-text"):
        read(tmp_path / "part-0.parquet")


def test_unusable_rows_are_counted_by_reason(tmp_path: Path) -> None:
    table = pa.table(
        {
            "query": ["q", None, "  ", "q", "q", "q", "q"],
            "document": ["d", "d", "d", "", None, "d", "d"],
            "label": [1.0, 1.0, 1.0, 1.0, 1.0, float("nan"), None],
        }
    )
    pq.write_table(table, tmp_path / "pairs.parquet")
    pairs = read(tmp_path / "pairs.parquet")
    assert rows(pairs.table) == [("q", "d", 1.0)]
    assert pairs.left_out == {"empty query": 2, "empty document": 2, "label is no finite number": 2}


def test_a_line_that_cannot_be_read_costs_itself(tmp_path: Path) -> None:
    lines = ["query\tdocument\tlabel", "a\tb", "q\td\t1", "q\td\tgood", "q\td\t0\tmore", "q\te\t0.5"]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    pairs = read(tmp_path / "pairs.tsv")
    assert rows(pairs.table) == [("q", "d", 1.0), ("q", "e", 0.5)]
    assert pairs.left_out == {"malformed line": 2, "label is no finite number": 1}


def test_a_line_of_jsonl_that_is_no_row_costs_itself(tmp_path: Path) -> None:
    good = '{"query": "2020-01-01", "document": "2020-01-02", "label": 1, "query_id": 7}'
    bad = ['{"query": "q", "docu', "7", '{"query": "q", "label": 1}', '{"query": 5, "document": "d", "label": 1}']
    bad += ['{"query": "q", "document": ["d"], "label": 1}', '{"query": "q", "document": "d", "label": "high"}']
    content = "\n".join([good, good, *bad]).encode() + b'\n{"query": "\xff", "document": "d", "label": 1}\n'
    for name, data in (("pairs.jsonl", content), ("pairs.jsonl.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(data)
        pairs = read(tmp_path / name)
        assert rows(pairs.table) == [("2020-01-01", "2020-01-02", 1.0)] * 2
        assert pairs.table["query_id"].to_pylist() == ["7", "7"]
        assert pairs.left_out == {
            "malformed line": 4, "not valid UTF-8": 1, "empty document": 1, "label is no finite number": 1,
        }  # fmt: skip
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(InputError, match=r"cut.jsonl.gz: cannot be read"):
        read(tmp_path / "cut.jsonl.gz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pairs.tsv", "query\tlabel\na\t1\n", "no column document or text"),
        ("pairs.tsv", "query\tdocument\tlabel\na\tb\tgood\n", "1 x label is no finite number"),
        ("pairs.tsv", "query\tdocument\tlabel\na\tb\tnan\n", "none of the 1 rows"),
        ("pairs.jsonl", "{not json", "is not JSON: line 1"),
        ("pairs.parquet", "PAR1 cut off", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as refusal:
        read(tmp_path / name)
    assert name in str(refusal.value)


def one_query(rows: list[tuple[str, str | None]]) -> bool:
    """Whether every row is linked to the first, by a text or an id, perhaps by way of others."""
    texts, ids, left = {rows[0][0]}, {rows[0][1]} - {None}, rows
    while linked := [row for row in left if row[0] in texts or row[1] in ids]:
        texts |= {text for text, _ in linked}
        ids |= {one for _, one in linked} - {None}
        left = [row for row in left if row not in linked]
    return not left


OWNERS = st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 9)))


@given(st.lists(OWNERS, min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 5))
def test_no_query_is_on_both_sides_and_no_pair_is_lost(
    owners: list[tuple[int, int | None]], fraction: float, seed: int
) -> None:
    """Also where one id has several texts, or one text several ids."""
    texts = [f"q{text}" for text, _ in owners]
    ids = pa.array([None if one is None else str(one) for _, one in owners], pa.string())
    table = pa.table({"query_id": ids, "query": texts, "row": list(range(len(owners)))})
    try:
        training, held_out = split_by_query(table, fraction, seed)
    except InputError as refusal:
        assert "only one query" in str(refusal)
        assert one_query(list(zip(texts, ids.to_pylist(), strict=True)))
        return
    assert not set(training["query"].to_pylist()) & set(held_out["query"].to_pylist())
    assert not {*training["query_id"].to_pylist()} & {*held_out["query_id"].drop_null().to_pylist()}
    assert sorted(training["row"].to_pylist() + held_out["row"].to_pylist()) == list(range(len(owners)))
    assert training.num_rows
    assert held_out.num_rows


@given(st.integers(2, 200), st.floats(0.01, 0.99), st.integers(0, 5))
def test_the_share_of_queries_is_the_one_asked_for(queries: int, fraction: float, seed: int) -> None:
    names = [str(number // 3) for number in range(3 * queries)]
    _, held_out = split_by_query(pa.table({"query_id": names, "query": names}), fraction, seed)
    assert len(set(held_out["query"].to_pylist())) == min(queries - 1, max(1, round(fraction * queries)))


def test_nothing_is_held_out_where_nothing_is_asked() -> None:
    training, held_out = split_by_query(columns(), 0.0, seed=0)
    assert (training.num_rows, held_out.num_rows) == (3, 0)


LABELLED = {"query_id": ["1", "1"], "query": ["a kiln", "a kiln"], "doc_id": ["x", "y"], "text": ["fires", "bread"]}


def test_a_teachers_scores_are_learnt_where_there_are_ranks_else_the_labels(tmp_path: Path) -> None:
    mined = pa.table(LABELLED | {"score": [20.0, 10.0], "label": [1.0, 0.0]})
    taught = mined.append_column("rank", pa.array([1, 2], pa.int32()))
    for name, table, target, expected in (
        ("mined", mined, None, [1.0, 0.0]),
        ("mined", mined, "score", [20.0, 10.0]),
        ("taught", taught, None, [20.0, 10.0]),
        ("taught", taught, "label", [1.0, 0.0]),
    ):
        pq.write_table(table, tmp_path / f"{name}.parquet")
        pairs = read(tmp_path / f"{name}.parquet", target).table
        assert pairs["label"].to_pylist() == expected
        assert pairs["relevant"].to_pylist() == [1.0, 0.0]
        assert pairs["query_id"].to_pylist() == ["1", "1"]


def test_rows_without_a_label_are_counted_and_left_out(tmp_path: Path) -> None:
    mined = pa.table(LABELLED | {"label": pa.array([1.0, None], pa.float32())})
    pq.write_table(mined, tmp_path / "mined.parquet")
    pairs = read(tmp_path / "mined.parquet")
    assert (pairs.table.num_rows, pairs.left_out) == (1, {"label is no finite number": 1})


def test_a_query_is_not_held_out_under_another_spelling() -> None:
    spelled = ["A kiln?", "a  kiln", "yeast", "YEAST!", "gas"]
    for seed in range(5):
        training, held_out = split_by_query(
            pa.table({"query_id": pa.nulls(5, pa.string()), "query": spelled}), 0.4, seed
        )
        sides = [
            {text.lower().strip("?! ").replace("  ", " ") for text in side["query"].to_pylist()}
            for side in (training, held_out)
        ]
        assert not sides[0] & sides[1]


@pytest.mark.parametrize("label", ["1_0", "\u0663", "yes", "1e39", ""])
def test_a_label_that_only_python_takes_for_a_number_costs_its_row(tmp_path: Path, label: str) -> None:
    (tmp_path / "pairs.tsv").write_text(f"query\tdocument\tlabel\na\tb\t1e0\na\tc\t{label}\n")
    found = read(tmp_path / "pairs.tsv")
    assert rows(found.table) == [("a", "b", 1.0)]
    assert found.left_out == {"label is no finite number": 1}
