"""Files of texts and pairs as people have them, through the jobs: read right, or refused with what to do."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.train.input import load_training_pairs
from support.command import execute

MARK = '"'
PASSAGES = {"\u00a0p1": 'A kiln,\u2028is a "furnace" for firing clay.', "p2": "Bread rises because yeast makes gas."}
QUERIES = {"q1": "what is a kiln", "q2": "why does bread rise"}
PAIRS = [("q1", QUERIES["q1"], "\u00a0p1", PASSAGES["\u00a0p1"], 1.0), ("q2", QUERIES["q2"], "p2", PASSAGES["p2"], 0.0)]
PLAIN = "".join(f"{key}\t{text}\n" for key, text in PASSAGES.items()).encode()


def rows(key: str, text: str) -> list[dict[str, Any]]:
    return [{key: own, text: PASSAGES[own], "title": None} for own in PASSAGES]


def lines(found: list[dict[str, Any]]) -> bytes:
    return "\r\n".join(map(json.dumps, found)).encode()


def parquet(found: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(found), sink)
    return sink.getvalue()


def quoted(delimiter: str) -> bytes:
    doubled = [f'{key}{delimiter}"{text.replace(MARK, MARK * 2)}"' for key, text in PASSAGES.items()]
    return "\r\n".join([f"id{delimiter}text", *doubled]).encode()


def archived(name: str) -> bytes:
    sink = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(sink, "w") as archive:
            archive.writestr("passages.tsv", PLAIN)
    else:
        with tarfile.open(fileobj=sink, mode="w:gz" if name.endswith("gz") else "w") as tar:
            entry = tarfile.TarInfo("passages.tsv")
            entry.size = len(PLAIN)
            tar.addfile(entry, io.BytesIO(PLAIN))
    return sink.getvalue()


READ = {
    "passages.tsv": PLAIN,
    "passages.tsv.gz": gzip.compress(PLAIN),
    "named.gz": PLAIN,
    "unnamed": gzip.compress(PLAIN),
    "passages.tsv.zst": pa.compress(PLAIN, codec="zstd", asbytes=True),
    "quoted.tsv": quoted("\t"),
    "passages.csv": quoted(","),
    "anserini.jsonl": lines(rows("id", "contents")),
    "msmarco-v2.jsonl.gz": gzip.compress(lines(rows("pid", "passage"))),
    "segments.json": json.dumps(rows("docid", "segment")).encode(),
    "corpus.parquet": parquet(rows("_id", "text")),
    "parquet-under-another-name": parquet(rows("docno", "body")),
}
REFUSED = {
    "passages.tar.gz": (archived("a.tgz"), "is a tar archive"),
    "tar-under-another-name.tsv.gz": (archived("a.tgz"), "is a tar archive"),
    "passages.tar": (archived("a.tar"), "is a tar archive"),
    "passages.zip": (archived("a.zip"), "is a ZIP archive"),
    "cut.tsv.gz": (gzip.compress(PLAIN)[:-9], "cannot be read"),
    "utf-16.tsv": (PLAIN.decode().encode("utf-16"), "save it as UTF-8"),
    "mac.tsv": (PLAIN.replace(b"\n", b"\r"), "carriage return alone"),
    "semicolons.csv": (quoted(";"), "CSV is read under a header"),
    "one.tsv": (b'p1\t"A kiln"\n', "quotation marks"),
    "numbers.jsonl": (b'{"id": 3.0, "text": "a"}\n', "3.0"),
    "numbers.parquet": (parquet([{"id": 3.0, "text": "a"}]), "3.0"),
    "pairs.jsonl": (b'{"query_id": "1", "doc_id": "2", "text": "a"}\n', "a query and a document"),
    "page.tsv": (b"<html>\n\t<p>\n</html>\n", "is not TSV of id<TAB>text"),
}
JOBS: dict[str, Callable[[Path, Path], list[str]]] = {
    "prepare": lambda queries, passages: ["--queries", str(queries), "--passages", str(passages), "--bm25", "2"],
    "mine": lambda queries, passages: ["--queries", str(queries), "--passages", str(passages), "--source", "bm25"],
    "queries": lambda queries, passages: ["--passages", str(passages), "--count", "2"],
}


def run(job: str, folder: Path, name: str, data: bytes) -> int:
    (folder / "queries.tsv").write_text("".join(f"{key}\t{text}\n" for key, text in QUERIES.items()))
    (folder / name).write_bytes(data)
    return execute([job, *JOBS[job](folder / "queries.tsv", folder / name), "--output", str(folder / "output")])


@pytest.mark.parametrize("job", ["prepare", "mine"])
@pytest.mark.parametrize("name", READ)
def test_passages_in_a_shape_that_people_have_are_read(tmp_path: Path, name: str, job: str) -> None:
    assert run(job, tmp_path, name, READ[name]) == ExitCode.DONE
    found = pads.dataset(str(tmp_path / "output")).to_table().to_pylist()
    if job == "prepare":
        found = [candidate for row in found for candidate in row["candidates"]]
    assert {row["doc_id"]: row["text"] for row in found} == PASSAGES


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_was_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, job: str
) -> None:
    data, seen = REFUSED[name]
    assert run(job, tmp_path, name, data) == ExitCode.REFUSED
    (told,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / name}" in told and seen in told
    assert not (tmp_path / "output").is_file() and not list((tmp_path / "output").glob("*.parquet"))


def pair_files() -> dict[str, bytes]:
    names = ("query_id", "query", "doc_id", "text", "score")
    found = [dict(zip(names, pair, strict=True)) for pair in PAIRS]
    table = [names, *PAIRS]
    doubled = [[str(value).replace('"', '""') for value in row] for row in table]
    tsv = "\n".join("\t".join(map(str, row)) for row in table).encode()
    return {
        "pairs.tsv": tsv,
        "pairs.tsv.zst": pa.compress(tsv, codec="zstd", asbytes=True),
        "pairs.csv": "\n".join(",".join(f'"{value}"' for value in row) for row in doubled).encode(),
        "pairs.tsv.gz": gzip.compress("\n".join("\t".join(f'"{value}"' for value in row) for row in doubled).encode()),
        "pairs.jsonl": lines(found),
        "pairs.json": json.dumps(found).encode(),
        "pairs.parquet": parquet(found),
    }


@pytest.mark.parametrize("name", pair_files())
def test_pairs_in_every_shape_are_prepared_and_trained_on(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pair_files()[name])
    assert execute(["prepare", "--pairs", str(tmp_path / name), "--output", str(tmp_path / "out")]) == ExitCode.DONE
    found = [
        (row["query_id"], row["query"], one["doc_id"], one["text"], one["score"])
        for row in pads.dataset(str(tmp_path / "out")).to_table().to_pylist()
        for one in row["candidates"]
    ]
    assert found == PAIRS
    learnt = load_training_pairs(str(tmp_path / name), None).table.to_pylist()
    assert [(row["query_id"], row["query"], row["document"], row["label"]) for row in learnt] == [
        (query_id, query, text, score) for query_id, query, _, text, score in PAIRS
    ]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_a_folder_of_collections_is_refused_with_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    for child in ("android", "english"):
        (tmp_path / "cqadupstack" / child).mkdir(parents=True)
        (tmp_path / "cqadupstack" / child / f"corpus.jsonl{ending}").write_bytes(b"")
    (tmp_path / "cqadupstack" / "notes").mkdir()
    flags = ["--beir", str(tmp_path / "cqadupstack"), "--bm25", "1", "--output", str(tmp_path / "out")]
    assert execute(["prepare", *flags]) == ExitCode.REFUSED
    assert "holds 2 collections, android, english; give one of them, as in" in capsys.readouterr().err
