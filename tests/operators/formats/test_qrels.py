import gzip
import io

import pytest

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.qrels import Grades, highest_grade, read_qrels


def read(text: str) -> Grades:
    return read_qrels(io.BytesIO(text.encode()), "qrels.txt").grades


EXPECTED = {"1": {"a": 0, "b": 2}, "2": {"a": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "1 0 a 0\n1 0 b 2\n2 0 a 1\n",
        "1\tQ0\ta\t0\r\n1\tQ0\tb\t2\r\n\r\n2\tQ0\ta\t1",
        "query-id\tcorpus-id\tscore\n1\ta\t0\n1\tb\t2\n2\ta\t1\n",
        "1\ta\t0\n1\tb\t2\n2\ta\t1.0\n",
    ],
)
def test_trec_and_beir_judgements_read_alike(text: str) -> None:
    assert read(text) == EXPECTED


def test_gzip_and_ids_with_spaces_are_read() -> None:
    data = gzip.compress(b"query-id\tcorpus-id\tscore\nq 1\td 1\t1\n")
    assert read_qrels(io.BytesIO(data), "test.tsv.gz").grades == {"q 1": {"d 1": 1}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0 b", "line 2: malformed line: 3 columns"),
        ("1 0 b yes", "line 2: malformed line: column 4, the grade, is 'yes'"),
        ("1 0 b 0.5", "the grade, is '0.5', not a whole number"),
        ("1 0 b nan", "the grade, is 'nan'"),
        ("1 0 1 7187158", "beyond 10,000"),
        ("1\t0\t\t1", "column 3, the doc id, is empty"),
        ("1 0 a 3", r"qrels\.txt, line 2: query '1', document 'a' is graded 3, but 0 on line 1"),
        ("q Q0 d 1 2.5 tag", "6 columns"),
    ],
)
def test_a_wrong_line_refuses_the_file_with_its_number(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(f"1 0 a 0\n{line}\n")


def test_the_same_judgement_twice_does_no_harm() -> None:
    assert read("1 0 a 1\n1 0 a 1\n") == {"1": {"a": 1}}


@pytest.mark.parametrize("text", ["", "\n\n", "query-id\tcorpus-id\tscore\n"])
def test_a_file_without_judgements_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"holds no (line|judgement)"):
        read(text)


def test_the_highest_grade_is_over_all_queries() -> None:
    assert highest_grade(EXPECTED) == 2
