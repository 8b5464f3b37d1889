"""Files known by their bytes: what is compressed is unpacked, what is damaged, an archive or binary is refused."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.content import bare_name, beginning, is_parquet, with_compressed
from ray_rerank.operators.formats.lines import read_lines
from ray_rerank.operators.rejects import RejectLog
from support.compressions import COMPRESSIONS, zstd

LINES = b"".join(b"%d\tsome text of %d\n" % (number, number * 7) for number in range(40))


def lines_of(data: bytes, name: str = "a.tsv") -> list[str]:
    return [text for _, text in read_lines(io.BytesIO(data), name, RejectLog())]


def tar(data: bytes, form: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as archive:
        entry = tarfile.TarInfo("passages.tsv")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


def version_7_tar(data: bytes) -> bytes:
    """As before POSIX: without a magic word."""
    header = bytearray(tar(data)[:512])
    header[257:] = bytes(512 - 257)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + tar(data)[512:]


def zipped(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("passages.tsv", data)
    return sink.getvalue()


def parquet(data: bytes) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": ["1"], "text": [data.decode()]}), sink)
    return sink.getvalue()


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.tsv.zst", "a"])
@pytest.mark.parametrize("compress", [bytes, *COMPRESSIONS])
def test_what_is_compressed_is_read_whatever_its_name(compress: Callable[[bytes], bytes], name: str) -> None:
    assert lines_of(compress(LINES), name) == LINES.decode().splitlines()
    assert lines_of(compress(LINES) + compress(b"41\tmore\n"), name)[-1] == "41\tmore"
    assert lines_of(compress(b""), name) == []


def test_zstd_behind_a_frame_that_is_to_be_skipped_is_read() -> None:
    assert lines_of(b"\x50\x2a\x4d\x18\x04\0\0\0size" + zstd(LINES)) == LINES.decode().splitlines()


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_a_compressed_file_cut_anywhere_is_refused(compress: Callable[[bytes], bytes]) -> None:
    whole = compress(LINES)
    for end in range(12, len(whole)):
        with pytest.raises(InputError, match=r"a\.tsv: cannot be read"):
            lines_of(whole[:end])
        with pytest.raises(InputError, match=r"a\.tsv: cannot be read"):
            beginning(io.BytesIO(whole[:end]), "a.tsv")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_byte_that_changed_is_no_other_row(compress: Callable[[bytes], bytes]) -> None:
    whole = compress(LINES)
    for place in range(12, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        try:
            found = lines_of(bytes(damaged))
        except InputError:
            continue
        assert found == LINES.decode().splitlines()


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_a_second_stream_whose_beginning_changed_is_not_passed_over(compress: Callable[[bytes], bytes]) -> None:
    first, second = compress(LINES), compress(b"41\tmore\n")
    for place in range(3):  # gzip's fourth holds flags, of which some change nothing
        damaged = bytearray(second)
        damaged[place] ^= 0x41
        with pytest.raises(InputError, match=r"a\.tsv: cannot be read"):
            lines_of(first + bytes(damaged))


def test_zeros_between_streams_of_xz_and_behind_them_are_padding() -> None:
    data = lzma.compress(LINES) + bytes(4) + lzma.compress(b"41\tmore\n") + bytes(8)
    assert lines_of(data) == [*LINES.decode().splitlines(), "41\tmore"]


@pytest.mark.parametrize("compress", [bytes, *COMPRESSIONS])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (tar, r"a tar archive \(first in it: passages.tsv\): unpack it first"),
        (lambda data: tar(data, tarfile.GNU_FORMAT), "a tar archive"),
        (version_7_tar, "a tar archive"),
        (zipped, "a ZIP archive: unpack it first"),
        (lambda data: b"PK\x05\x06" + bytes(18), "a ZIP archive"),
        (lambda data: b"7z\xbc\xaf\x27\x1c" + data, "an archive: unpack it first"),
        (lambda data: b"\x04\x22\x4d\x18" + data, "compressed, and not as is read here: unpack it first"),
        (parquet, "a Parquet file"),
        (lambda data: data.decode().encode("utf-16"), "UTF-16 or UTF-32: save it as UTF-8"),
        (lambda data: data.decode().encode("utf-16-le"), "UTF-16 or UTF-32"),
        (lambda data: data.decode().encode("utf-16-be"), "UTF-16 or UTF-32"),
        (lambda data: data.decode().encode("utf-32"), "UTF-16 or UTF-32"),
        (lambda data: b"\x93NUMPY\x01\0\xff" + data, "a binary file"),
    ],
)
def test_what_is_no_text_is_refused_whatever_its_name(
    compress: Callable[[bytes], bytes], make: Callable[[bytes], bytes], message: str
) -> None:
    with pytest.raises(InputError, match=rf"a\.tsv is {message}"):
        lines_of(compress(make(LINES)))


def test_what_is_compressed_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"a\.tsv is compressed twice"):
        lines_of(gzip.compress(bz2.compress(LINES)))


@pytest.mark.parametrize("opening", ["PAR1\ta", "BZh91\ta", "PK\ta", "ustar\ta", "(\ta", "x\ty\0z"])
def test_text_that_begins_like_another_kind_is_text(opening: str) -> None:
    assert lines_of(opening.encode()) == [opening]
    assert not is_parquet(io.BytesIO(opening.encode()))


def test_names_are_known_without_the_ending_of_a_compression() -> None:
    assert with_compressed((".tsv",)) == (".tsv", ".tsv.gz", ".tsv.bz2", ".tsv.zst", ".tsv.xz")
    assert [bare_name(f"A.TSV{ending}") for ending in ("", ".gz", ".BZ2", ".zst", ".xz")] == ["a.tsv"] * 5
