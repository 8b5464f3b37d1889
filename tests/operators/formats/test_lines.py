import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.lines import Unusable, parse_lines, read_lines
from ray_rerank.operators.rejects import RaiseOnReject, Reason, RejectLog


def lines_of(data: bytes, log: RejectLog | None = None) -> list[tuple[int, str]]:
    return list(read_lines(io.BytesIO(data), "a.tsv", log or RejectLog()))


def test_a_missing_last_newline_crlf_and_a_byte_order_mark_change_nothing() -> None:
    plain = [(1, "a\tb"), (2, "c")]
    assert lines_of(b"a\tb\nc\n") == plain
    assert lines_of(b"a\tb\nc") == plain
    assert lines_of(b"\xef\xbb\xbfa\tb\r\nc\r\n") == plain


def test_blank_lines_are_passed_over_and_still_counted() -> None:
    assert lines_of(b"a\n\n  \t\r\nb\n") == [(1, "a"), (4, "b")]
    assert lines_of("\u00a0\n".encode()) == [(1, "\u00a0")]


def test_a_line_ends_only_at_a_newline() -> None:
    text = "one\u2028two\x0bthree\x85four\rfive"
    assert lines_of(text.encode() + b"\n") == [(1, text)]


def test_lines_that_end_in_a_carriage_return_alone_are_refused() -> None:
    with pytest.raises(InputError, match=r"a\.tsv: its lines end in a carriage return alone"):
        lines_of(b"1\ta\r2\tb\r")


@given(st.lists(st.text(st.characters(exclude_characters="\n\r\ufeff", codec="utf-8"), min_size=1), max_size=20))
def test_every_line_that_holds_anything_comes_back_with_its_number(texts: list[str]) -> None:
    expected = [(number, text) for number, text in enumerate(texts, start=1) if not text.encode().isspace()]
    assert lines_of("\n".join(texts).encode()) == expected


def test_a_line_longer_than_a_read_comes_back_whole() -> None:
    long = "x" * (3 << 20)
    assert lines_of(f"a\n{long}\nb".encode()) == [(1, "a"), (2, long), (3, "b")]


def test_bytes_that_are_not_utf8_cost_their_line() -> None:
    log = RejectLog()
    assert lines_of(b"a\nb\xff\nc\n", log) == [(1, "a"), (3, "c")]
    assert [(reject.line, reject.reason) for reject in log.kept] == [(2, Reason.NOT_UTF8)]


def test_a_gzip_file_cut_short_is_refused_with_its_line() -> None:
    whole = gzip.compress(b"".join(b"%d some text\n" % number for number in range(50_000)))
    with pytest.raises(InputError, match=r"a\.tsv: cannot be read beyond line \d+"):
        lines_of(whole[: len(whole) // 2])


@pytest.mark.parametrize("good", [0, 1, 4])
def test_a_file_of_which_most_lines_are_not_utf8_is_refused_with_what_to_do(good: int) -> None:
    data = b"plain\n" * good + "déjà vu\n".encode("latin-1") * 5
    with pytest.raises(InputError, match=rf"is not UTF-8 \(line {good + 1}, byte 2; 5 of {good + 5} lines .*: save it"):
        lines_of(data)
    assert len(lines_of(data + b"plain\n" * 5)) == good + 5


def test_files_with_byte_order_marks_put_together_have_none_in_their_lines() -> None:
    part = b"\xef\xbb\xbfa\tb\xef\xbb\xbf\nc\n"
    assert lines_of(part * 2) == [(1, "a\tb\ufeff"), (2, "c"), (3, "a\tb\ufeff"), (4, "c")]


def parse_number(text: str) -> int:
    if not text.isdigit():
        raise Unusable("not a number")
    return int(text)


def test_a_malformed_line_costs_the_line_once_there_was_a_good_one() -> None:
    log = RejectLog()
    lines = [(1, "7"), *((number, "x") for number in range(2, 40)), *((number, "8") for number in range(40, 80))]
    found = list(parse_lines(lines, parse_number, "n.txt", "numbers", log))
    assert found == [(1, 7), *((number, 8) for number in range(40, 80))]
    assert log.counts == {Reason.MALFORMED: 38}


def test_a_file_of_which_most_lines_are_malformed_is_refused() -> None:
    lines = [(1, "7"), (2, "x"), (3, "y")]
    with pytest.raises(InputError, match=r"n\.txt is not numbers: line 2: not a number; 2 lines are not, 1 are"):
        list(parse_lines(lines, parse_number, "n.txt", "numbers", RejectLog()))


def test_ten_bad_lines_before_a_good_one_refuse_the_file_without_reading_on() -> None:
    lines = iter((number, "x") for number in range(1, 1000))
    with pytest.raises(InputError, match=r"n\.txt is not numbers: line 1: not a number"):
        list(parse_lines(lines, parse_number, "n.txt", "numbers", RejectLog()))
    assert next(lines) == (11, "x")


def test_a_short_file_with_no_good_line_is_refused() -> None:
    with pytest.raises(InputError, match="line 3"):
        list(parse_lines([(3, "x")], parse_number, "n.txt", "numbers", RejectLog()))


def test_where_every_line_counts_the_first_fault_ends_the_reading() -> None:
    with pytest.raises(InputError, match=r"n\.txt, line 2: malformed line: not a number"):
        list(parse_lines([(1, "1"), (2, "x")], parse_number, "n.txt", "numbers", RaiseOnReject()))
