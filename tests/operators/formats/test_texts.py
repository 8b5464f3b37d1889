import io
import json

import pytest

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.texts import TextLine, ids_of, passages_of, read_collection, texts_by_id
from ray_rerank.operators.rejects import Reason, RejectLog


def entries(data: str, name: str = "p.tsv", log: RejectLog | None = None) -> list[TextLine]:
    return list(read_collection(io.BytesIO(data.encode()), name, log or RejectLog()))


def test_all_after_the_first_tab_is_text() -> None:
    assert entries("1\ta\tb c\t\n2\td\n") == [TextLine(1, "1", "a\tb c\t"), TextLine(2, "2", "d")]


def test_a_header_line_is_no_passage() -> None:
    assert entries("id\ttext\n1\ta\n") == [TextLine(2, "1", "a")]
    assert entries("pid\tpassage\n1\ta\n") == [TextLine(2, "1", "a")]


@pytest.mark.parametrize("header", ["docid\tabstract", "#id\ttext", "QID\tquery_text", "text\tnumber", '"did"\tbody'])
def test_a_header_that_is_not_understood_is_refused_and_is_no_passage(header: str) -> None:
    data = f"{header}\nd1\tthe red one\nd2\tthe blue one\n"
    with pytest.raises(InputError, match=r"p\.tsv, line 1: .* seems to name the columns; known are an id"):
        entries(data)
    assert entries("id\ttext\n" + data)[1:] == [TextLine(3, "d1", "the red one"), TextLine(4, "d2", "the blue one")]


def test_under_a_header_columns_go_by_their_names() -> None:
    assert entries("id\ttext\ttitle\n1\ta\tb\n") == [TextLine(2, "1", "b a")]
    assert entries("url\tPassage\tpid\nhttp\ta\t1\n") == [TextLine(2, "1", "a")]
    assert entries("text\tid\na\t1\n") == [TextLine(2, "1", "a")]
    with pytest.raises(InputError, match=r"line 2: no field 'text': it has id, title"):
        entries("id\ttitle\n1\ta\n")
    with pytest.raises(InputError, match="line 2: the header names a column twice"):
        entries("id\ttext\ttext\n1\ta\tb\n")


@pytest.mark.parametrize("key", ["_id", "id", "query_id", "doc_id"])
def test_jsonl_ids_go_by_any_of_four_names_and_may_be_whole_numbers(key: str) -> None:
    line = json.dumps({key: 7, "text": "a", "other": [1]})
    assert entries(line, "p.jsonl") == [TextLine(1, "7", "a")]


def test_a_title_goes_before_the_text_as_beir_does() -> None:
    lines = [{"_id": "1", "title": "A", "text": "b"}, {"_id": "2", "title": "", "text": "b"}]
    lines += [{"_id": "3", "title": None, "text": "b"}, {"_id": "4", "title": "A", "text": ""}]
    found = entries("\n".join(map(json.dumps, lines)), "corpus.jsonl.gz")
    assert [entry.text for entry in found] == ["A b", "b", "b", "A"]


@pytest.mark.parametrize(
    ("title", "contents", "text"),
    [("Red", "Red\nis a colour", "Red\nis a colour"), ("Red", "Red", "Red"), ("Red", "Reddish", "Red Reddish"),
     ("Red", "is a colour", "Red is a colour"), ("", "is", "is")],
)  # fmt: skip
def test_contents_that_begin_with_their_title_are_not_given_it_again(title: str, contents: str, text: str) -> None:
    line = json.dumps({"id": "1", "title": title, "contents": contents})
    assert entries(line, "p.jsonl") == [TextLine(1, "1", text)]


def test_a_file_without_a_telling_name_is_known_by_its_first_line() -> None:
    assert entries('{"id": "1", "text": "a"}', "collection") == [TextLine(1, "1", "a")]
    assert entries("1\ta", "collection") == [TextLine(1, "1", "a")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", Reason.MALFORMED),
        ("[1]", Reason.MALFORMED),
        ('{"text": "no id"}', Reason.MALFORMED),
        ('{"id": true, "text": "a"}', Reason.MALFORMED),
        ('{"id": " ", "text": "a"}', Reason.MALFORMED),
        ('{"id": "1"}', Reason.MALFORMED),
        ('{"id": "1", "text": null}', Reason.MALFORMED),
        ('{"id": "1", "text": 5}', Reason.MALFORMED),
        ('{"id": "1", "text": "\\ud800"}', Reason.NOT_UTF8),
        ("[" * 100_000, Reason.MALFORMED),
    ],
)
def test_a_bad_json_line_costs_itself_with_its_reason(line: str, reason: Reason) -> None:
    log = RejectLog()
    good = '{"id": "0", "text": "a"}'
    assert entries(f"{good}\n{line}\n", "p.jsonl", log) == [TextLine(1, "0", "a")]
    assert [(reject.line, reject.reason) for reject in log.kept] == [(2, reason)]
    assert log.table().num_rows == 1


def test_a_tsv_line_without_a_tab_or_an_id_costs_itself() -> None:
    log = RejectLog()
    assert entries("1\ta\nno tab here\n\tno id\n2\tb\n", log=log) == [TextLine(1, "1", "a"), TextLine(4, "2", "b")]
    assert [reject.line for reject in log.kept] == [2, 3]


@pytest.mark.parametrize("name", ["p.tsv", "p.jsonl", "headed.tsv"])
def test_an_id_of_more_than_64_kib_costs_its_row(name: str) -> None:
    log = RejectLog()
    ids = ["1", "é" * (1 << 15), "é" * (1 << 15) + "x", "2"]
    rows = [f'{{"id": "{one}", "text": "a"}}\n' if name.endswith("jsonl") else f"{one}\ta\n" for one in ids]
    found = entries("".join((["id\ttext\n"] if name == "headed.tsv" else []) + rows), name, log)
    assert [len(entry.id) for entry in found] == [1, 1 << 15, 1]
    assert ["the id has more than 65,536 bytes" in (reject.detail or "") for reject in log.kept] == [True]


def test_only_the_passages_that_are_wanted_are_kept() -> None:
    found = passages_of([TextLine(i, str(i), f"text {i}") for i in range(100)], "p", RejectLog(), frozenset({"7", "9"}))
    assert dict(found.row) == {"7": 0, "9": 1}
    assert found.texts.to_pylist() == ["text 7", "text 9"]


def test_the_first_line_of_an_id_is_kept_and_the_second_reported() -> None:
    log = RejectLog()
    twice = [TextLine(1, "1", "a"), TextLine(2, "1", "b")]
    assert passages_of(twice, "p", log).texts.to_pylist() == ["a"]
    assert texts_by_id(twice, "q", log) == {"1": "a"}
    assert [(reject.file, reject.line, reject.reason) for reject in log.kept] == [
        ("p", 2, Reason.DUPLICATE_ID),
        ("q", 2, Reason.DUPLICATE_ID),
    ]


def test_an_empty_query_is_reported_and_an_empty_passage_is_not_there() -> None:
    log = RejectLog()
    blank = [TextLine(1, "1", " \u00a0"), TextLine(2, "2", "b")]
    assert texts_by_id(blank, "q", log) == {"2": "b"}
    assert [reject.reason for reject in log.kept] == [Reason.EMPTY_TEXT]
    assert list(passages_of(blank, "p", RejectLog()).row) == ["2"]
    assert ids_of(blank).to_pylist() == ["2"]
