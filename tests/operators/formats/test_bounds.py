"""What has no end, or unpacks without measure, is refused by a bound; messages have one too."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_rerank.cluster.errors import ClusterError
from ray_rerank.operators.candidates.flat_pairs import read_pairs
from ray_rerank.operators.errors import InputError, listed
from ray_rerank.operators.formats.content import LONGEST
from ray_rerank.operators.formats.json_rows import json_rows
from ray_rerank.operators.formats.lines import read_lines
from ray_rerank.operators.formats.parquet_rows import parquet_rows
from ray_rerank.operators.formats.tables import read_table
from ray_rerank.operators.rejects import Reason, Reject, RejectLog

ENDLESS = b"a" * (LONGEST + (2 << 20))


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lambda data: lzma.compress(data, preset=0), lambda data: pa.compress(data, "zstd")],
)
def test_what_unpacks_without_measure_is_refused(pack: Callable[[bytes], bytes]) -> None:
    packed = io.BytesIO(bytes(pack(ENDLESS)))
    with pytest.raises(InputError, match=r"a\.tsv: unpacks to more than 32 MiB and 200 times its size"):
        list(read_lines(packed, "a.tsv", RejectLog()))


def test_a_line_and_a_row_have_a_bound() -> None:
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: is longer than 32 MiB"):
        list(read_lines(io.BytesIO(b"{}\n" + ENDLESS), "a.jsonl", RejectLog()))
    with pytest.raises(InputError, match="a row is longer than 32 MiB"):
        list(read_table(io.BytesIO(b'id,text\n1,"' + ENDLESS), "a.csv", RejectLog()).rows)
    with pytest.raises(InputError, match="after row 1: a row is longer than 32 MiB"):
        list(json_rows(io.BytesIO(b'[{}, {"a": "' + ENDLESS), "a.json", RejectLog()))


def test_long_documents_are_read() -> None:
    text = "ab " * (2 << 20)
    rows = json_rows(io.BytesIO(b'[{"text": "%s"}, {"text": "b"}]' % text.encode()), "a.json", RejectLog())
    assert [row["text"] for _, row in rows if isinstance(row, dict)] == [text, "b"]


def parquet(table: pa.Table) -> io.BytesIO:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", dictionary_pagesize_limit=1 << 30, store_schema=False)
    return io.BytesIO(sink.getvalue())


def test_a_dictionary_that_explodes_and_rows_without_bytes_are_refused() -> None:
    ids = pa.array([str(number) for number in range(300)])
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array(["a" * (8 << 20)]))
    with pytest.raises(InputError, match=r"beyond row \d+: more than \d+ MiB come out of a file of"):
        list(parquet_rows(parquet(pa.table({"id": ids, "text": texts})), "a.parquet"))
    many = parquet(pa.table({"text": pa.nulls(10_000_001, pa.int8())}))
    with pytest.raises(InputError, match="its footer claims 10,000,001 rows in"):
        list(parquet_rows(many, "a.parquet"))


def test_messages_list_a_handful_and_have_a_bound() -> None:
    assert listed(range(100_000)) == "0, 1, 2, 3, 4, 5, 6, 7 and 99,992 more"
    with pytest.raises(InputError) as wide:
        next(read_pairs(parquet(pa.table({f"column_{n}": [1] for n in range(2000)})), "a.parquet", RejectLog()))
    assert len(str(wide.value)) < 500 and "and 1,992 more" in str(wide.value)
    for kind in (InputError, ClusterError):
        assert len(str(kind("x" * 10_000_000))) < 4100
    assert len(str(Reject("a", 1, Reason.MALFORMED, "x" * 10_000_000, "\ud800"))) < 1200
