"""Queries and passages in every shape that people have: read back as they were written, in every compression."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.texts import read_collection
from ray_rerank.operators.rejects import RejectLog
from support.compressions import COMPRESSIONS

Texts = Sequence[tuple[str, str]]
MARK = '"'
ASCII_SPACE = " \t\n\r\v\f"
NAMES = [("_id", "text"), ("id", "contents"), ("pid", "passage"), ("docid", "segment"), ("docno", "body")]
NAMES += [("query_id", "query"), ("qid", "text"), ("corpus-id", "content"), ("passage_id", "passage")]


def read(data: bytes, name: str) -> list[tuple[str, str]]:
    log = RejectLog()
    found = [(entry.id, entry.text) for entry in read_collection(io.BytesIO(data), name, log)]
    assert not log.counts
    return found


def objects(texts: Texts, names: tuple[str, str] = ("_id", "text")) -> list[dict[str, Any]]:
    return [{names[0]: key, "url": "http", names[1]: text} for key, text in texts]


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def json_array(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, indent=1).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def separated(texts: Texts, delimiter: str, quoting: int) -> bytes:
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(("id", "text"))
    writer.writerows(texts)
    return sink.getvalue().encode()


def plain(texts: Texts) -> bytes:
    return "".join(f"{key}\t{text}\n" for key, text in texts).encode()


SHAPES: dict[str, Callable[[Texts], bytes]] = {
    "a.jsonl": lambda texts: json_lines(objects(texts)),
    "a": lambda texts: json_lines(objects(texts)),
    "a.json": lambda texts: json_array(objects(texts)),
    "lines.tsv": lambda texts: json_lines(objects(texts)),
    "array.txt": lambda texts: json_array(objects(texts)),
    "a.parquet": lambda texts: parquet(objects(texts)),
    "a.csv": lambda texts: separated(texts, ",", csv.QUOTE_MINIMAL),
    "all.csv": lambda texts: separated(texts, ",", csv.QUOTE_ALL),
    "all.tsv": lambda texts: separated(texts, "\t", csv.QUOTE_ALL),
    "minimal.tsv": lambda texts: separated(texts, "\t", csv.QUOTE_MINIMAL),
    "plain.tsv": plain,
}
ODD = st.text(st.one_of(st.sampled_from("\"'\t,{[\u00a0\u2028\x85\x0b\x0c\x00\ufeff"), st.characters(codec="utf-8")))
IDS = ODD.filter(lambda text: text.strip() and text == text.strip(ASCII_SPACE) and not text.startswith("\ufeff"))
COLUMN_IDS = IDS.filter(lambda text: not set(text) & set('\t\n\r\0"'))
LINES = st.text(
    st.one_of(st.sampled_from('"\t, \u00a0\u2028\x85\x0b\x0c'), st.characters(codec="utf-8", exclude_characters="\n\r"))
)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "plain.tsv"])
@settings(max_examples=60)
@given(st.lists(st.tuples(IDS, ODD), min_size=1, max_size=5), st.sampled_from([bytes, *COMPRESSIONS]))
def test_what_is_written_in_a_shape_is_read_back(
    shape: str, texts: list[tuple[str, str]], compress: Callable[[bytes], bytes]
) -> None:
    data = SHAPES[shape](texts)
    try:
        assert read(data if shape == "a.parquet" else compress(data), shape) == texts
    except InputError as refusal:  # a tab behind a line end: rows, or a text that spans them
        assert shape == "minimal.tsv" and "nothing shows whether" in str(refusal)


@settings(max_examples=300)
@given(st.lists(st.tuples(COLUMN_IDS, LINES), min_size=1, max_size=5), st.sampled_from([0, 6]))
def test_plain_lines_are_read_back_or_refused(odd: list[tuple[str, str]], ordinary: int) -> None:
    texts = odd + [("d1", "an ordinary text")] * ordinary
    try:
        found = read(plain(texts), "plain.tsv")
    except InputError as refusal:
        assert re.search(r"quot|column \d should be the|\d columns|line 1: .* seems to name the", str(refusal))
        return
    quoted = [
        tuple(field if field == own else f'"{field.replace(MARK, MARK * 2)}"' for field, own in zip(*rows, strict=True))
        for rows in zip(found, texts, strict=True)
    ]
    assert quoted == texts  # as they stand, or all as CSV has them


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("write", [json_lines, json_array, parquet])
def test_ids_and_texts_go_by_the_names_that_collections_have(
    names: tuple[str, str], write: Callable[[list[dict[str, Any]]], bytes]
) -> None:
    assert read(write(objects([("1", "a"), ("2", "b")], names)), "corpus") == [("1", "a"), ("2", "b")]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"pid": "m_0_0", "passage": "a", "spans": "(0,9)", "docid": "m_0"}, ("m_0_0", "a")),
        ({"docid": "d#0_1", "url": "u", "title": "T", "headings": "h", "segment": "a"}, ("d#0_1", "T a")),
        ({"docid": "d", "url": "u", "title": "T", "headings": "h", "body": "a"}, ("d", "T a")),
        ({"id": "d", "contents": "T\na", "raw": "<a>"}, ("d", "T\na")),
        ({"id": 3, "text": "a"}, ("3", "a")),
        ({"id": 2**70, "text": "a"}, (str(2**70), "a")),
        ({"id": "3.0", "text": "a"}, ("3.0", "a")),
        ({"_id": None, "id": "1", "text": "a"}, ("1", "a")),
        ({"id": "\u00a01\u00a0", "text": "a"}, ("\u00a01\u00a0", "a")),
        ({"id": " 1", "text": "a"}, (" 1", "a")),
        ({"id": "1", "title": ["T", "U"], "text": "a"}, ("1", "T U a")),
        ({"id": "1", "title": [], "text": "a"}, ("1", "a")),
        ({"id": "1", "title": None, "text": "a"}, ("1", "a")),
        ({"id": "1", "query": "q", "text": "a"}, ("1", "a")),
    ],
)
def test_a_row_is_what_its_collection_means(row: Mapping[str, Any], expected: tuple[str, str]) -> None:
    for write in (json_lines, json_array, *([] if row.get("id") == 2**70 else [parquet])):
        assert read(write([dict(row)]), "corpus") == [expected]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 3.0, "text": "a"}, "'id' is 3.0: an id is a string or a whole number"),
        ({"id": True, "text": "a"}, "'id' is a bool"),
        ({"query_id": "1", "doc_id": "2", "text": "a"}, "a query and a document, query_id and doc_id"),
        ({"id": "1", "passage": "a", "body": "b"}, "the text may be any of passage, body"),
        ({"id": "1", "title": {"en": "T"}, "text": "a"}, "'title' is a dict"),
        ({"id": "1", "title": [1], "text": "a"}, "'title' is a list"),
        ({"id": "1", "text": ["a"]}, "'text' is a list"),
        ({"id": "1", "abstract": "a"}, "no field 'text'"),
    ],
)
def test_a_row_that_may_mean_several_things_is_refused(row: Mapping[str, Any], message: str) -> None:
    for write in (json_lines, json_array, parquet):
        with pytest.raises(
            InputError, match=f"corpus is not queries or passages, rows of an id and a text: line 1: {message}"
        ):
            list(read_collection(io.BytesIO(write([dict(row)])), "corpus", RejectLog()))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'[{"id": "1", "text": "a"}', "begins as a JSON array and is none"),
        (b'[{"id": "1", "text": "a"}, 7]', "row 2 of the array is a JSON int"),
        (b'[1, "a"]\n[2, "b"]\n', "begins as a JSON array and is none"),
        (b'{"1": "a", "2": "b"}', "none of the fields"),
        (b'{"id": "1", "text": "a"}\r{"id": "2", "text": "b"}\r', "carriage return alone"),
    ],
)
def test_json_that_is_neither_lines_nor_an_array_of_objects_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(read_collection(io.BytesIO(data), "a.json", RejectLog()))


def test_no_break_spaces_around_an_id_in_a_column_are_its_own_and_others_are_not() -> None:
    assert read("\u00a01\u00a0 \ta\n".encode(), "a.tsv") == [("\u00a01\u00a0", "a")]
    assert read('id,text\n" 1\u2003",a\n'.encode(), "a.csv") == [("1\u2003", "a")]


@pytest.mark.parametrize("data", [b"1,a\n", b"1;a, b\n", b"id;text\n1;a, b\n", b'1;"a, b"\n'])
def test_csv_without_a_header_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.csv: CSV is read under a header that names an id"):
        read(data, "a.csv")
