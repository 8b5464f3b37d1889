import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.trec_runs import Run, cut, read_run
from ray_rerank.operators.rejects import Reason, RejectLog


def read(text: str, log: RejectLog | None = None) -> tuple[Run, tuple[str, ...]]:
    found = read_run(io.BytesIO(text.encode()), "run.trec", log or RejectLog())
    return found.run, found.contradictory


def test_documents_stand_by_score_then_rank_then_id() -> None:
    run, _ = read("q Q0 low 1 1.0 t\nq Q0 tie-b 5 2 t\nq Q0 tie-a 5 2 t\nq Q0 late 9 2 t\nq Q0 best 7 3.5 t\n")
    assert run["q"].doc_ids == ["best", "tie-a", "tie-b", "late", "low"]
    assert run["q"].scores.tolist() == [3.5, 2, 2, 2, 1]
    assert run["q"].lines.tolist() == [5, 3, 2, 4, 1]


def test_a_run_whose_rank_contradicts_its_score_is_mentioned() -> None:
    _, contradictory = read("a Q0 x 1 1 t\na Q0 y 2 2 t\nb Q0 x 1 2 t\nb Q0 y 2 1 t\nc Q0 x 1 1 t\nc Q0 y 2 1 t\n")
    assert contradictory == ("a",)


def test_a_document_named_twice_keeps_its_better_place() -> None:
    log = RejectLog()
    run, _ = read("q Q0 x 2 1 t\nq Q0 y 3 0.5 t\nq Q0 x 1 9 t\n", log)
    assert run["q"].doc_ids == ["x", "y"]
    assert run["q"].scores.tolist() == [9, 0.5]
    assert [(reject.line, reject.reason, reject.doc_id) for reject in log.kept] == [(1, Reason.DUPLICATE_DOC, "x")]


@pytest.mark.parametrize(
    "line",
    ["q Q0 d 1 0.5", "q Q0 d 1 0.5 t x", "q Q0 d one 0.5 t", "q Q0 d 1 high t", "q Q0 d 1 nan t", "q Q0 d 1 inf t",
     "q Q0 d 1 1e39 t", "q Q0 d 99999999999999999999 1.5 t"],
)  # fmt: skip
def test_a_malformed_line_costs_the_line(line: str) -> None:
    log = RejectLog()
    run, _ = read(f"q Q0 a 1 2 t\n{line}\nq Q0 b 2 1 t\n", log)
    assert run["q"].doc_ids == ["a", "b"]
    assert [(reject.line, reject.reason) for reject in log.kept] == [(2, Reason.MALFORMED)]


def test_a_file_that_is_no_run_is_refused_with_its_line() -> None:
    with pytest.raises(
        InputError, match=r"run\.trec is not a TREC run .*: line 2: 'q 0 d 1'.*; it looks like TREC qrels"
    ):
        read("\nq 0 d 1\nq 0 e 0\n")


def test_an_empty_file_is_no_run() -> None:
    with pytest.raises(InputError, match=r"run\.trec holds no line"):
        read("\n\n")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(-3, 3)), min_size=1), st.randoms())
def test_the_order_of_the_lines_does_not_matter(rows: list[tuple[str, int, int]], shuffle: random.Random) -> None:
    unique = {(query, doc): score for query, doc, score in rows}
    lines = [f"{query} Q0 d{doc} {doc} {score} t" for (query, doc), score in unique.items()]
    lines += ["z Q0 best 1 2 t", "z Q0 next 2 1 t"]  # whose ranks agree
    first, _ = read("\n".join(lines))
    shuffle.shuffle(lines)
    second, _ = read("\n".join(lines))
    assert {key: list(value.doc_ids) for key, value in first.items()} == {
        key: list(value.doc_ids) for key, value in second.items()
    }


def test_a_cut_keeps_the_top() -> None:
    run, _ = read("q Q0 a 1 3 t\nq Q0 b 2 2 t\nq Q0 c 3 1 t\n")
    assert cut(run["q"], 2).doc_ids == ["a", "b"]
    assert cut(run["q"], None).doc_ids == ["a", "b", "c"]
