"""`prepare --dataset`: one small collection in the layouts in which libraries keep theirs on disk; no network."""

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ray_rerank.jobs.exit_codes import ExitCode
from support.command import execute

CORPUS = [
    {"_id": "d1", "title": "A red title", "text": "cats sleep"},
    {"_id": "d2", "title": "", "text": "red cats wake"},
    {"_id": "d3", "title": "Blue", "text": "dogs bark"},
]
QUERIES = [{"_id": "q1", "text": "red cats"}, {"_id": "q2", "text": "blue dogs"}, {"_id": "q3", "text": "not judged"}]
QRELS = [
    {"query-id": "q1", "corpus-id": "d1", "score": 2},
    {"query-id": "q1", "corpus-id": "d2", "score": 1},
    {"query-id": "q1", "corpus-id": "d3", "score": 0},
    {"query-id": "q2", "corpus-id": "d3", "score": 1},
]
REVISION = "0a1b2c3d"

HOME = tempfile.TemporaryDirectory(prefix="ir_datasets-")  # it reads the place of its home once, as it is imported
os.environ["IR_DATASETS_HOME"] = HOME.name


pytest.importorskip("ir_datasets", reason="the extra `datasets` is not installed")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a hub cache that is offline."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def tsv(rows: list[dict[str, Any]]) -> bytes:
    return "".join(
        "\t".join(map(str, row)) + "\n" for row in [rows[0].keys(), *(row.values() for row in rows)]
    ).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def snapshot(name: str, files: dict[str, bytes], configs: dict[str, dict[str, Any]] | None, *, ref: bool = True) -> str:
    """A data set as huggingface_hub lays it out: blobs, and links to them below the revision."""
    repository = Path("hub") / f"datasets--{name.replace('/', '--')}"
    (repository / "blobs").mkdir(parents=True, exist_ok=True)
    if configs is not None:
        listed = [
            {"config_name": config, "data_files": [{"split": split, "path": path} for split, path in splits.items()]}
            for config, splits in configs.items()
        ]
        files = {
            "README.md": f"---\nlanguage: en\n{yaml.safe_dump({'configs': listed})}---\n# A card\n---\n".encode(),
            **files,
        }
    for number, (path, data) in enumerate(files.items()):
        blob = repository / "blobs" / f"{number}-{len(data)}"
        blob.write_bytes(data)
        link = repository / "snapshots" / REVISION / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    if ref:
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(REVISION)
    return name


def floats(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"score": float(row["score"])} for row in rows]


def mteb_jsonl() -> str:
    """As mteb/scifact; of its judgements only the split that was used was fetched."""
    configs = {
        "default": {"train": "qrels/train.jsonl", "test": "qrels/test.jsonl"},
        "corpus": {"corpus": "corpus.jsonl"},
        "queries": {"queries": "queries.jsonl"},
    }
    files = {"corpus.jsonl": lines(CORPUS), "queries.jsonl": lines(QUERIES), "qrels/test.jsonl": lines(floats(QRELS))}
    return snapshot("mteb/tiny", files, configs, ref=False)  # mteb asks for a commit: there is no ref


def mteb_parquet() -> str:
    """As `push_to_hub` leaves it: a config's splits in numbered files, ids under `id`."""
    configs = {
        "default": {"test": "data/test-*", "train": "data/train-*"},
        "corpus": {"test": "corpus/test-*"},
        "queries": {"test": "queries/test-*"},
    }
    corpus = [{"id": row["_id"], "title": row["title"] or None, "text": row["text"]} for row in CORPUS]
    queries = [{"id": row["_id"], "text": row["text"]} for row in QUERIES]
    files = {
        "corpus/test-00000-of-00002.parquet": parquet(corpus[:2]),
        "corpus/test-00001-of-00002.parquet": parquet(corpus[2:]),
        "queries/test-00000-of-00001.parquet": parquet(queries),
        "data/test-00000-of-00001.parquet": parquet(QRELS),
        "data/train-00000-of-00001.parquet": parquet(QRELS[:1]),
    }
    return snapshot("mteb/TinyRetrieval", files, configs)


def mteb_language() -> str:
    configs = {
        f"{language}-{kind}": {"test": f"{language}-{kind}/test-*"}
        for language in ("de", "en")
        for kind in ("corpus", "queries", "qrels")
    }
    rows = {"corpus": CORPUS, "queries": QUERIES, "qrels": QRELS}
    files = {f"de-{kind}/test-00000-of-00001.parquet": parquet(rows[kind]) for kind in rows}
    return snapshot("mteb/Tongues", files, configs) + "/de"


def beir_on_the_hub() -> str:
    """BEIR has the judgements in a data set of their own, without a config."""
    configs = {"corpus": {"corpus": "corpus/corpus-*"}, "queries": {"queries": "queries/queries-*"}}
    queries = [{"_id": row["_id"], "title": "", "text": row["text"]} for row in QUERIES]
    files = {
        "corpus/corpus-00000-of-00001.parquet": parquet(CORPUS),
        "queries/queries-00000-of-00001.parquet": parquet(queries),
    }
    snapshot(
        "BeIR/tiny-qrels",
        {"README.md": b"# no front matter\n", "test.tsv": tsv(QRELS), "train.tsv": tsv(QRELS[:1])},
        None,
    )
    return snapshot("BeIR/tiny", files, configs)


def without_a_card() -> str:
    files = {"corpus.jsonl": lines(CORPUS), "queries.jsonl": lines(QUERIES), "qrels/test.tsv": tsv(QRELS)}
    return snapshot("someone/tiny", files, None) + f"@{REVISION}"


def beir_files() -> dict[str, bytes]:
    return {"corpus.jsonl": lines(CORPUS), "queries.jsonl": lines(QUERIES), "qrels/test.tsv": tsv(QRELS)}


def beir_folder() -> str:
    for path, data in beir_files().items():
        file = Path("datasets") / "tiny" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return "tiny"


def write_zip(path: Path, stem: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in beir_files().items():
            archive.writestr(f"{stem}/{name}", data)


def beir_zip() -> str:
    write_zip(Path("datasets") / "tiny.zip", "tiny")
    return "tiny"


def beir_zip_of_several() -> str:
    write_zip(Path("datasets") / "cqadupstack.zip", "cqadupstack/android")
    return "cqadupstack/android"


def ir_datasets_own() -> str:
    """A data set that ir_datasets knows, in the cache that it keeps: BEIR's ZIP."""
    import ir_datasets

    home = Path(ir_datasets.util.home_path())
    shutil.rmtree(home / "beir" / "scifact", ignore_errors=True)
    write_zip(home / "beir" / "scifact" / "source.zip", "scifact")
    return "beir/scifact/test"


def ir_datasets_registered(*, missing: bool = False) -> str:
    """Local files under an id of one's own; TSV has no title."""
    import ir_datasets
    from ir_datasets.formats import TrecQrels, TsvDocs, TsvQueries
    from ir_datasets.util import LocalDownload

    texts = {"docs.tsv": [(row["_id"], f"{row['title']} {row['text']}".strip()) for row in CORPUS]}
    texts |= {"queries.tsv": [(row["_id"], row["text"]) for row in QUERIES]}
    texts |= {"qrels.txt": [(row["query-id"], "0", row["corpus-id"], str(row["score"])) for row in QRELS]}
    for name, rows in texts.items():
        if not missing:
            Path(name).write_text("".join("\t".join(row) + "\n" for row in rows))
    name = f"local-{Path.cwd().name}"
    parts = [
        TsvDocs(LocalDownload(Path("docs.tsv").absolute())),
        TsvQueries(LocalDownload(Path("queries.tsv").absolute())),
    ]
    grades = TrecQrels(LocalDownload(Path("qrels.txt").absolute()), {0: "no", 1: "some", 2: "yes"})
    ir_datasets.registry.register(name, ir_datasets.Dataset(*parts, grades))
    return name


def prepare(name: str, *more: str) -> int:
    first_stage = () if any(flag.startswith("--run") for flag in more) else ("--bm25=3",)
    return execute(["prepare", f"--dataset={name}", *first_stage, *more, "--output=candidates"])


LAYOUTS: list[Callable[[], str]] = [
    mteb_jsonl, mteb_parquet, mteb_language, beir_on_the_hub, without_a_card,
    beir_folder, beir_zip, beir_zip_of_several, ir_datasets_own, ir_datasets_registered,
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_titles_grades_and_judged_queries_come_out_of_every_layout(
    place: Path, capsys: pytest.CaptureFixture[str], layout: Callable[[], str]
) -> None:
    name = layout()
    assert prepare(name) == ExitCode.DONE
    assert "queries are judged in" in capsys.readouterr().out
    (shard,) = (place / "candidates").glob("*.parquet")
    found = {
        row["query_id"]: (row["query"], {c["doc_id"]: c["text"] for c in row["candidates"]})
        for row in pq.read_table(shard).to_pylist()
    }
    assert found == {
        "q1": ("red cats", {"d1": "A red title cats sleep", "d2": "red cats wake"}),
        "q2": ("blue dogs", {"d3": "Blue dogs bark"}),
    }
    judged = (place / "candidates" / "_qrels.txt").read_text().splitlines()
    assert sorted(judged) == ["q1 0 d1 2", "q1 0 d2 1", "q1 0 d3 0", "q2 0 d3 1"]
    assert prepare(name) == ExitCode.DONE
    assert "already prepared" in capsys.readouterr().out
    assert execute(["evaluate", "--ranking=candidates", "--qrels=candidates/_qrels.txt"]) == ExitCode.DONE


@pytest.mark.parametrize("layout", [mteb_parquet, beir_on_the_hub])
def test_another_split_is_taken_where_it_is_asked_for(place: Path, layout: Callable[[], str]) -> None:
    assert prepare(layout(), "--split=train") == ExitCode.DONE
    assert (place / "candidates" / "_qrels.txt").read_text() == "q1 0 d1 2\n"


def test_a_run_goes_with_a_data_set_and_another_one_replaces_its_judgements(place: Path) -> None:
    (place / "run.trec").write_text("q1 Q0 d3 1 2 t\nq1 Q0 d1 2 1 t\n")
    assert prepare(beir_folder(), "--run=run.trec") == ExitCode.DONE
    (shard,) = (place / "candidates").glob("*.parquet")
    assert [c["doc_id"] for c in pq.read_table(shard).to_pylist()[0]["candidates"]] == ["d3", "d1"]
    files = ["--queries=datasets/tiny/queries.jsonl", "--passages=datasets/tiny/corpus.jsonl"]
    files += ["--qrels=datasets/tiny/qrels/test.tsv", "--bm25=2"]
    assert execute(["prepare", *files, "--output=candidates", "--overwrite"]) == ExitCode.DONE
    assert not (place / "candidates" / "_qrels.txt").exists()


def test_judgements_that_a_trec_file_cannot_hold_are_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beir_folder()
    with (place / "datasets" / "tiny" / "qrels" / "test.tsv").open("a") as file:
        file.write("q1\ta b\t1\n")
    assert prepare("tiny") == ExitCode.DONE_WITH_ERRORS
    assert "left out: 1 x id that a line cannot hold" in capsys.readouterr().out


def cut_short() -> str:
    name = mteb_parquet()
    file = Path("hub/datasets--mteb--TinyRetrieval/snapshots") / REVISION / "corpus/test-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    return name


def two_revisions() -> str:
    name = mteb_jsonl()
    folder = Path("hub/datasets--mteb--tiny/snapshots")
    shutil.copytree(folder / REVISION, folder / "ffff", symlinks=True)
    return name


def half_grades() -> str:
    files = {"corpus.jsonl": lines(CORPUS), "queries.jsonl": lines(QUERIES)}
    return snapshot("someone/half", files | {"qrels/test.jsonl": lines([QRELS[0] | {"score": 0.5}])}, None)


def graded_twice() -> str:
    files = {"corpus.jsonl": lines(CORPUS), "queries.jsonl": lines(QUERIES)}
    return snapshot("someone/twice", files | {"qrels/test.jsonl": lines([QRELS[0], QRELS[0] | {"score": 1}])}, None)


def outside() -> str:
    Path("secret.jsonl").write_bytes(lines(CORPUS))
    configs = {"corpus": {"corpus": "../../../../secret.jsonl"}, "queries": {"queries": "queries.jsonl"}}
    return snapshot("someone/outside", {"queries.jsonl": lines(QUERIES)}, configs)


@pytest.mark.parametrize(
    "card",
    [
        "---\nconfigs: 3\n---\n",
        "---\nconfigs: [7, {data_files: {}}, {config_name: corpus}]\n---\n",
        "---\nconfigs: [{config_name: queries, data_files: [{split: test}, {path: x}]}]\n---\n",
        "---\nconfigs: [{config_name: queries, data_files: [{split: test, path: [[1], {}, 2]}]}]\n---\n",
        "---\nconfigs: [{config_name: queries, data_files: [null, /etc/hostname, '**', '']}]\n---\n",
        "---\nconfigs: [\n---\n",
        "---\n- 1\n---\n",
    ],
)
def test_a_card_that_says_nothing_of_use_is_refused_in_a_sentence(
    place: Path, capsys: pytest.CaptureFixture[str], card: str
) -> None:
    name = snapshot("someone/odd", {"README.md": card.encode(), "data.txt": b"no data"}, None)
    assert prepare(name) == ExitCode.REFUSED
    assert capsys.readouterr().err.startswith("ray-rerank prepare: ")


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        (lambda: "mteb/absent", (), "is not in the hub's cache"),
        (lambda: "no-such-name", (), "no id that ir_datasets knows"),
        (
            lambda: "beir/cqadupstack",
            (),
            "no queries with documents under this id; parts of it: beir/cqadupstack/android",
        ),
        (mteb_jsonl, ("--split=train",), "qrels/train.jsonl is not in the hub's cache"),
        (mteb_parquet, ("--split=dev",), "default has no split dev; it has test, train"),
        (lambda: mteb_language().replace("/de", ""), (), "has no config queries or query; it has de-corpus"),
        (lambda: mteb_language().replace("/de", "/en"), (), "en-queries/test-* is not in the hub's cache"),
        (cut_short, (), "cannot be read as Parquet"),
        (two_revisions, (), f"holds the revisions {REVISION}, ffff; say which: mteb/tiny@REVISION"),
        (half_grades, (), "the grade is 0.5, not a whole number"),
        (graded_twice, (), "is graded 1, and 2 before"),
        (outside, (), "is not in the hub's cache"),
        (beir_folder, ("--split=dev",), "holds no qrels/dev.tsv"),
        (beir_zip, ("--split=dev",), "holds no tiny/qrels/dev.tsv"),
        (ir_datasets_own, ("--split=test",), "leave out --split"),
        (lambda: ir_datasets_registered(missing=True), (), "ir_datasets cannot give its queries"),
        (lambda: "tiny", ("--beir=x",), "give one"),
        (lambda: "tiny", ("--queries=x",), "leave out --queries"),
    ],
)
def test_what_is_not_there_or_wrong_is_refused_in_a_sentence(
    place: Path, capsys: pytest.CaptureFixture[str], name: Callable[[], str], more: tuple[str, ...], said: str
) -> None:
    assert prepare(name(), *more) == ExitCode.REFUSED
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["vaswani", "msmarco-passage/dev"])
def test_without_the_library_the_extra_is_named(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ir_datasets", None)
    assert prepare(name) == ExitCode.REFUSED
    assert "pip install 'ray-rerank[datasets]'" in capsys.readouterr().err
    assert prepare(beir_folder()) == ExitCode.DONE


def test_a_known_collection_drops_the_query_itself_by_its_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queries = [{"_id": "d1", "text": "red cats"}]
    files = {"corpus.jsonl": lines(CORPUS), "queries.jsonl": lines(queries)}
    name = snapshot("mteb/arguana", files | {"qrels/test.jsonl": lines([QRELS[1] | {"query-id": "d1"}])}, None)
    assert prepare(name) == ExitCode.DONE
    assert "1 pairs of a query and itself (by id) are dropped" in capsys.readouterr().out
