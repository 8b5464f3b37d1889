"""Tables in text files: which are quoted, which are not, and which are refused since nobody can tell."""

import io

import pytest

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.content import SAMPLE
from ray_rerank.operators.formats.tables import read_table
from ray_rerank.operators.rejects import RejectLog


def rows(text: str, name: str = "a.tsv") -> list[tuple[int, list[str]]]:
    return list(read_table(io.BytesIO(text.encode()), name, RejectLog()).rows)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('1\t"say ""hi"""\n2\tb\n', [(1, ["1", 'say "hi"']), (2, ["2", "b"])]),
        ('1\t"a\tb"\r\n2\tb\r\n', [(1, ["1", "a\tb"]), (2, ["2", "b"])]),
        ('1\t"a\n\nb"\n2\tb\n', [(1, ["1", "a\n\nb"]), (4, ["2", "b"])]),
        ('"1"\t"a"\n', [(1, ["1", "a"])]),
        ('"1"\t"a\nb\tc"\n', [(1, ["1", "a\nb\tc"])]),
        ('q\t"a"\n\n' * 11, [(row * 2 + 1, ["q", "a"]) for row in range(11)]),
        ("id\ttext\n" + 'q\t"a"\n' * 11, [(1, ["id", "text"]), *((row, ["q", "a"]) for row in range(2, 13))]),
        ('\ufeff"1"\t"a"\n', [(1, ["1", "a"])]),
        ('1\t"a ""b"""\n2\t"a\u2028\x85\x0b\x0cb"\n', [(1, ["1", 'a "b"']), (2, ["2", "a\u2028\x85\x0b\x0cb"])]),
    ],
)
def test_a_file_that_is_quoted_for_certain_is_read_as_csv_is(text: str, expected: list[tuple[int, list[str]]]) -> None:
    assert rows(text) == expected


@pytest.mark.parametrize(
    "lines",
    [
        ['1\t"hi" he said', '2\t"say ""hi"""'],
        ['1\ta 5" pipe', '2\t"b"'],
        ['1\t"never closed', "2\tb"],
        ["1\twhat", "2\tto be, or not", '3\t"to be, or not"'],
        ["1\ta\u2028b\x85c\x0bd\x0ce\u2029", "2\tb\rc"],
    ],
)
def test_a_file_that_is_not_quoted_is_read_as_it_stands(lines: list[str]) -> None:
    assert rows("\n".join(lines)) == [(number, line.split("\t")) for number, line in enumerate(lines, start=1)]


@pytest.mark.parametrize(
    "text",
    [
        '1\t"to be"\n',
        '1\t"a\n2\tb"\n',
        '1\t"a\n2\tb"\n3\t"a ""b"""\n',
        'q1\t"to be"\nq2\t"or not"\n',
        'id\ttext\n1\t"to be"\n',
        '1\t"a\n2\tb"\n',
        'q1\t"to be, or not"\nq2\twhat\n',
    ],
)
def test_where_quotation_marks_may_be_the_texts_own_the_file_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"a\.tsv: there are quotation marks around fields, and nothing shows"):
        rows(text)


@pytest.mark.parametrize("late", ['x\t"say ""hi"""', 'x\t"a', '"x"\ta'])
def test_quoting_that_begins_late_is_refused_with_its_line(late: str) -> None:
    plain = f"1\t{'no marks here ' * 100}\n" * (SAMPLE // 1400)
    with pytest.raises(InputError, match=rf"a\.tsv, line {SAMPLE // 1400 + 2}: a field is quoted as in CSV"):
        rows(f"{plain}1\ta\n{late}\n2\tb\n")
    settled = rows(f'{plain}1\ta 5" pipe\n{late}\n2\tb\n')
    assert settled[-2][1] == late.split("\t")


@pytest.mark.parametrize(
    "text", ['1\t"say ""hi"""\n2\t"b" c\n', '1\t"say ""hi"""\n2\t"b', '"1"\t"a"\n2\tb\rc\n', '"1"\t"a"\n2\tb\udcff\n']
)
def test_quoting_that_breaks_off_is_refused(text: str) -> None:
    first, _, rest = text.partition("\n")
    long = f"{first}\n" + f'1\t"a ""b"" {"c" * 1000}"\n' * (SAMPLE // 1000) + rest
    with pytest.raises(
        InputError, match=r"a\.tsv: is quoted as CSV is, and (cannot be read|is not UTF-8) beyond line \d+"
    ):
        list(read_table(io.BytesIO(long.encode(errors="surrogateescape")), "a.tsv", RejectLog()).rows)


def test_csv_is_known_by_its_name() -> None:
    assert rows('1,"a, b"\n2,c\td\n', "a.csv") == [(1, ["1", "a, b"]), (2, ["2", "c\td"])]
    long = "x" * 200_000
    assert rows(f"1,{long}\n", "a.csv.gz") == [(1, ["1", long])]


def test_rows_that_end_in_a_carriage_return_alone_are_refused_with_their_line() -> None:
    with pytest.raises(InputError, match=r"a\.tsv, line 2: rows seem to end in a carriage return alone"):
        rows("id\ttext\n1\ta\r2\tb\r3\tc\n")
