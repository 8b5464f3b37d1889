"""Damaged and hostile input files: every job that reads them ends with a code, a sentence and a bound."""

import bz2
import gzip
import io
import itertools
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from ray_rerank.operators.candidates.schema import CANDIDATE_SCHEMA
from support.candidates import rows
from support.marks import here
from support.trial import fuzz, short_and_long, try_command

pytestmark = [here, pytest.mark.usefixtures("one_thread")]

IDS = st.sampled_from(["q0", "q1", "d0-0", "d0-1", "d1-0", "", " ", "é", "1", "-1", "x" * 70_000, "\0", '"', "\ud800"])
WORDS = st.one_of(
    IDS, st.text(max_size=8), st.sampled_from(["text", "a b c", "Q0", "0", "nan", "1e999", "\r", "\u2028"])
)
SCALARS = st.one_of(
    WORDS, st.none(), st.booleans(), st.floats(), st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 10**400])
)
VALUES = st.recursive(SCALARS, lambda own: st.lists(own, max_size=3) | st.dictionaries(WORDS, own, max_size=3))
NAMES = st.sampled_from(
    ["_id", "id", "query_id", "query", "doc_id", "text", "title", "score", "label", "rank", "candidates", "ranking",
     "source", "query-id", "corpus-id", "document", "metadata", "a.b", ""]
)  # fmt: skip
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", ""])


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@st.composite
def columns(draw: st.DrawFn) -> bytes:
    """Runs, judgements, TSV and CSV, good and bad."""
    good = draw(
        st.sampled_from(["q0 Q0 d0-1 1 2.5 x", "q0 0 d0-1 1", "q0\tthe soil", "q0\thow\td0-1\tsoil\t1.5", "q0 d0-1 1"])
    )
    separator = draw(st.sampled_from([" ", "\t", ",", "  "]))
    header = draw(st.none() | st.lists(NAMES, max_size=6).map(separator.join))
    bad = st.lists(WORDS, max_size=7).map(separator.join)
    lines = draw(st.lists(st.one_of(st.just(good), bad), max_size=8))
    return encoded(draw(LINE_ENDS).join(([] if header is None else [header]) + lines))


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """JSON lines and arrays."""
    good: dict[str, Any] = {"_id": "q0", "query_id": "q0", "query": "how", "doc_id": "d0-1", "text": "soil", "score": 1}
    found = draw(st.lists(st.one_of(st.just(good), st.dictionaries(NAMES, VALUES, max_size=6), VALUES), max_size=5))
    if draw(st.booleans()):
        return json.dumps(found).encode()
    return encoded(draw(LINE_ENDS).join(map(json.dumps, found)))


KINDS = st.sampled_from([
    pa.string(), pa.large_string(), pa.binary(), pa.int64(), pa.int8(), pa.float32(), pa.float64(),
    pa.bool_(), pa.null(), pa.date32(), pa.time32("s"), pa.decimal128(20, 2), pa.dictionary(pa.int32(), pa.string()),
    pa.list_(pa.string()), pa.struct([("doc_id", pa.string()), ("text", pa.string())]), pa.map_(pa.string(), pa.int8()),
])  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Parquet: what prepare and label write, with a column of another type or values that are missing; and others."""
    nested = pa.Table.from_pylist(rows(3, 2), schema=CANDIDATE_SCHEMA)
    flat = pa.Table.from_pylist([
        {"query_id": f"q{n // 2}", "query": "how", "doc_id": f"d{n // 2}-{n % 2}", "text": "soil", "score": 1.0,
         "rank": n, "label": n % 2} for n in range(6)
    ])  # fmt: skip
    kind = draw(st.integers(0, 3))
    if kind:
        table = nested if kind == 1 else flat
        if draw(st.booleans()):
            table = table.take(pa.array(draw(st.lists(st.sampled_from([None, 0, 1, 2]), max_size=6)), pa.int64()))
        if draw(st.booleans()):
            name, values = draw(st.sampled_from(table.schema.names)), table.num_rows
            odd = draw(st.one_of(KINDS, st.lists(st.tuples(NAMES, KINDS), min_size=1, max_size=4).map(listed)))
            table = table.set_column(table.schema.names.index(name), name, made(odd, values, draw(st.booleans())))
    else:
        fields = draw(st.lists(st.tuples(NAMES, KINDS), min_size=1, max_size=6))
        many = draw(st.integers(0, 3))
        arrays = [made(kind, many, draw(st.booleans())) for _, kind in fields]
        table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    sink, groups = io.BytesIO(), draw(st.integers(1, 4))
    pq.write_table(table, sink, row_group_size=groups, compression=draw(st.sampled_from(["zstd", "none"])))
    return sink.getvalue()


def listed(fields: list[tuple[str, pa.DataType]]) -> pa.DataType:
    return pa.list_(pa.struct(fields))


def made(kind: pa.DataType, many: int, empty: bool) -> pa.Array:
    """A few values of any type."""
    if empty or pa.types.is_null(kind):
        return pa.nulls(many, kind)
    if pa.types.is_struct(kind):
        return pa.StructArray.from_arrays([made(field.type, many, False) for field in kind], fields=list(kind))
    if pa.types.is_map(kind):
        return pa.array([[("a", 1)]] * many, kind)
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(
            pa.array(range(many + 1), pa.int32()), made(kind.value_type, many, False), type=kind
        )
    if pa.types.is_dictionary(kind):
        return pa.array([f"q{number}" for number in range(many)]).dictionary_encode().cast(kind)
    texts = [f"q{number}" for number in range(many)]
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if is_text or pa.types.is_binary(kind):
        return pa.array(texts).cast(kind)
    return pa.array([number % 2 for number in range(many)], pa.int32()).cast(kind)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that are cut off, overwritten, doubled or packed, or left as they are."""
    data = draw(whole)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2, 3]))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        if draw(st.booleans()) and len(data) > 40:
            at = len(data) - 1 - draw(st.integers(0, 40))  # the footer's end, a checksum
        piece = draw(st.binary(max_size=4))
        data = draw(
            st.sampled_from([data[:at], data[:at] + piece + data[at + len(piece) :], data[:at] + piece + data[at:]])
        )
    pack = draw(st.sampled_from([*[bytes] * 8, gzip.compress, bz2.compress, lzma.compress, zstd]))
    packed = pack(data)
    return packed[: draw(st.integers(0, len(packed)))] if draw(st.integers(0, 9)) == 0 else packed


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


TEXTS = st.one_of(columns(), objects(), tables(), st.binary(max_size=64))
ENDING = st.sampled_from([".parquet", ".tsv", ".csv", ".jsonl", ".json", "", ".tsv.gz", ".jsonl.zst"])
PARQUET = {"export", "dry run", "rerank", "evaluate ranking"}
ROLE = st.sampled_from(
    ["evaluate ranking", "evaluate qrels", "prepare run", "prepare queries", "prepare passages", "prepare qrels",
     "prepare pairs", "prepare beir corpus", "prepare beir queries", "prepare beir qrels", "queries passages",
     "queries apart", "export", "dry run", "rerank", "inspect", "mine"]
)  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are as they should be."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "run").write_text("q0 Q0 d0-0 1 2.5 x\nq0 Q0 d0-1 2 1.5 x\nq1 Q0 d1-0 1 2.5 x\n")
    (folder / "qrels").write_text("q0 0 d0-1 1\nq1 0 d1-0 1\n")
    (folder / "queries.tsv").write_text("q0\thow to water\nq1\tthe soil\n")
    (folder / "passages.tsv").write_text("".join(f"d{n}-{m}\tThe soil of a cactus\n" for n in (0, 1) for m in (0, 1)))
    return folder


def command(role: str, bad: Path, ending: str, data: bytes, good: Path, model: Path, output: Path) -> list[str]:
    """The command line that reads the bad file in a role."""
    path = bad / f"file{'.parquet' if role in PARQUET else ending}"
    if role.startswith("prepare beir"):
        names = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels/test.tsv"}
        own = {
            "corpus.jsonl": b'{"_id": "d0-1", "title": "", "text": "soil"}\n',
            "queries.jsonl": b'{"_id": "q0", "text": "the soil"}\n',
            "qrels/test.tsv": b"query-id\tcorpus-id\tscore\nq0\td0-1\t1\n",
        } | {names[role.split()[2]]: data}
        (bad / "qrels").mkdir()
        for name, content in own.items():
            (bad / name).write_bytes(content)
        return ["prepare", "--beir", str(bad), "--bm25", "2", "--output", str(output)]
    path.write_bytes(data)
    job, _, option = role.partition(" ")
    if job == "prepare" and option != "pairs":
        given = {"run": good / "run", "queries": good / "queries.tsv", "passages": good / "passages.tsv"} | {
            option: path
        }
        return [
            "prepare",
            *(str(word) for name, file in given.items() for word in (f"--{name}", file)),
            "--output",
            str(output),
        ]
    texts, judged = str(good / "passages.tsv"), str(good / "qrels")
    return {
        "prepare pairs": ["prepare", "--pairs", str(path), "--output", str(output)],
        "evaluate ranking": ["evaluate", "--ranking", str(path), "--qrels", judged],
        "evaluate qrels": ["evaluate", "--ranking", str(good / "run"), "--qrels", str(path)],
        "queries passages": ["queries", "--passages", str(path), "--output", str(output), "--count", "3"],
        "queries apart": ["queries", "--passages", texts, "--apart-from", str(path), "--output", str(output)],
        "export": ["export", "--input", str(path), "--format", "listwise", "--output", str(output)],
        "dry run": ["rerank", "--dry-run", "--input", str(path), "--model", str(model), "--output", str(output)],
        "rerank": ["rerank", "--input", str(path), "--model", str(model), "--output", str(output)],
        "inspect": ["inspect", str(path)],
        "mine": ["mine", "--queries", str(path), "--passages", texts, "--source", "random", "--output", str(output)],
    }[role]


CASES = ROLE.flatmap(
    lambda role: st.tuples(
        st.just(role), ENDING, damaged(st.one_of(tables(), tables(), TEXTS) if role in PARQUET else TEXTS)
    )
)


@short_and_long
def test_bad_input_files_are_refused_or_read(count: int, good: Path, cross_encoder: Path, tmp_path: Path) -> None:
    folders: Iterator[Path] = (tmp_path / str(number) for number in itertools.count())

    def check(given: tuple[str, str, bytes]) -> None:
        role, ending, data = given
        bad = next(folders)
        bad.mkdir()
        try_command(command(role, bad, ending, data, good, cross_encoder, bad / "out")).check()

    fuzz(CASES, check, count)
