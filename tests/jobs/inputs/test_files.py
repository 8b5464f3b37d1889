"""What a folder holds besides the files that are read is told or refused, and links are followed, in every job."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.inputs.files import is_data
from support.candidates import rows, write_candidates
from support.command import execute

pytestmark = pytest.mark.usefixtures("in_process")

QUERIES = 4
"""Of each shard; a folder has two."""

JOBS: dict[str, Callable[[str, Path], list[str]]] = {
    "rerank": lambda folder, top: ["--input", folder, "--output", f"{top}/out", "--model", f"{top}/model", "--dry-run"],
    "label": lambda folder, top: ["--input", folder, "--output", f"{top}/out", "--model", f"{top}/model", "--dry-run"],
    "compare": lambda folder, top: [
        *("--candidates", folder, "--qrels", f"{top}/qrels.txt", "--output", f"{top}/out", "--no-timing"),
        *("--models", f"{top}/model"),
    ],
    "evaluate": lambda folder, top: ["--ranking", folder, "--qrels", f"{top}/qrels.txt"],
    "prepare": lambda folder, top: ["--pairs", folder, "--output", f"{top}/out"],
    "export": lambda folder, top: ["--input", folder, "--format", "listwise", "--output", f"{top}/out"],
    "train": lambda folder, top: ["--input", folder, "--model", f"{top}/nowhere", "--output", f"{top}/out"],
    "train, measured": lambda folder, top: [
        *("--input", f"{top}/pairs.tsv", "--model", f"{top}/nowhere", "--output", f"{top}/out"),
        *("--evaluation", folder, "--evaluation-qrels", f"{top}/qrels.txt"),
    ],
    "cache": lambda folder, top: ["export", f"{top}/cache", "--output", f"{top}/out", "--candidates", folder],
}
FLAT = ("prepare", "export", "train")
"""Jobs that read one row a pair."""


@pytest.fixture
def top(tmp_path: Path, cross_encoder: Path) -> Path:
    """All that the jobs need besides the folder: a model, judgements, pairs, a filled cache."""
    (tmp_path / "model").symlink_to(cross_encoder)
    (tmp_path / "qrels.txt").write_text("q0 0 d0-1 1\n")
    (tmp_path / "pairs.tsv").write_text("query\tdocument\tlabel\na kiln\tfires clay\t1\n")
    return tmp_path


def shard(path: Path, number: int, flat: bool) -> Path:
    """One of two shards: the queries of each are its own."""
    content = rows(QUERIES, 3)
    for row in content:
        row["query_id"] = f"q{int(str(row['query_id'])[1:]) + QUERIES * number}"
    if not flat:
        return write_candidates(path, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = [
        {key: row[key] for key in ("query_id", "query")} | one | {"rank": place, "label": float(place == 1)}
        for row in content
        for place, one in enumerate(row["candidates"], start=1)
    ]
    pq.write_table(pa.Table.from_pylist(pairs), path)
    return path


def run(name: str, folder: Path | str, top: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    job = name.partition(",")[0]
    if name == "cache" and not (top / "cache").exists():
        write_candidates(top / "one" / "a.parquet", rows(1, 2))
        arguments = ["--input", f"{top}/one", "--output", f"{top}/two", "--model", f"{top}/model", "--cache"]
        assert execute(["rerank", *arguments, f"{top}/cache"]) == ExitCode.DONE
    capsys.readouterr()
    code = execute([job, *JOBS[name](str(folder), top)])
    told = capsys.readouterr()
    return code, told.out + told.err


def links_to_files(folder: Path, store: Path, flat: bool) -> None:
    for number in range(2):
        (folder / f"part-{number}.parquet").symlink_to(shard(store / f"{number}.parquet", number, flat))


def links_to_folders(folder: Path, store: Path, flat: bool) -> None:
    for number in range(2):
        shard(store / f"{number}" / "a.parquet", number, flat)
        (folder / f"part-{number}").symlink_to(store / f"{number}")


def hub_snapshot(folder: Path, store: Path, flat: bool) -> None:
    """As the hub's cache has it: every file is a link to a blob, and a card lies beside the shards."""
    (folder / "README.md").symlink_to(os.path.relpath(store / "blobs" / "card", folder))
    for number in range(2):
        blob = shard(store / "blobs" / f"{number}{'0' * 39}", number, flat)
        (folder / f"train-0000{number}-of-00002.parquet").symlink_to(os.path.relpath(blob, folder))
    (store / "blobs" / "card").write_text("# A data set")


@pytest.mark.parametrize("made_of", [links_to_files, links_to_folders, hub_snapshot])
@pytest.mark.parametrize("name", [job for job in JOBS if job != "compare"])
def test_every_job_reads_what_links_lead_to(
    top: Path, name: str, made_of: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    (top / "in").mkdir()
    made_of(top / "in", top / "store", name in FLAT)
    code, told = run(name, top / "in", top, capsys)
    pairs = 2 * QUERIES * 3
    expected = {
        "rerank": f"2 shards, {2 * QUERIES} queries, {pairs} pairs",
        "label": f"2 shards, {2 * QUERIES} queries, {pairs} pairs",
        "evaluate": f"{2 * QUERIES - 1} of {2 * QUERIES} queries of the ranking have no judgements",
        "prepare": f"queries     {2 * QUERIES}",
        "export": f"listwise of {2 * QUERIES} queries",
        "train": "nowhere: there is no such directory",
        "train, measured": "nowhere: there is no such directory",
        "cache": f"of {pairs:,} candidates are not in the cache",
    }[name]
    assert expected in told
    assert code == (ExitCode.REFUSED if "nowhere" in expected else ExitCode.DONE)
    assert ("note" in told and "not read: README.md" in told) == (made_of is hub_snapshot)


def gone(folder: Path) -> str:
    (folder / "part-1.parquet").symlink_to("../gone")
    return "part-1.parquet: is a link to ../gone, which is not there; mend or remove it"


def gone_folder(folder: Path) -> str:
    (folder / "more").symlink_to("/nowhere/at/all")
    return "more: is a link to /nowhere/at/all, which is not there"


def ring(folder: Path) -> str:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    return "one: is a link to two, which leads back to it"


def loop(folder: Path) -> str:
    (folder / "deep").mkdir()
    (folder / "deep" / "loop").symlink_to("..")
    return "deep/loop: is a link to a folder that it lies in"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "part-1.parquet")
    return "part-1.parquet: is neither a file nor a folder"


def packed(folder: Path) -> str:
    (folder / "part-1.parquet.gz").write_bytes((folder / "part-0.parquet").read_bytes())
    return "also holds part-1.parquet.gz: data, it seems, that cannot be read here"


def another_form(folder: Path) -> str:
    (folder / "part-1.avro").touch()
    (folder / "deep").mkdir()
    (folder / "deep" / "part-2.ORC").touch()
    return "also holds part-2.ORC, part-1.avro: data"


def unfinished(folder: Path) -> str:
    (folder / "part-1.parquet.crdownload").touch()
    return "also holds part-1.parquet.crdownload"


@pytest.mark.parametrize("spoil", [gone, gone_folder, ring, loop, pipe, packed, another_form, unfinished])
@pytest.mark.parametrize("name", JOBS)
def test_every_job_refuses_a_folder_of_which_it_would_read_a_part(
    top: Path, name: str, spoil: Callable[[Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    shard(top / "in" / "part-0.parquet", 0, name in FLAT)
    expected = spoil(top / "in")
    code, told = run(name, top / "in", top, capsys)
    assert code == ExitCode.REFUSED
    assert expected in told
    assert not list((top / "out").glob("**/*.parquet"))


def test_what_is_named_by_the_refusal_reads_the_rest(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard(top / "[1]" / "part-0.parquet", 0, flat=False)
    packed(top / "[1]")
    code, told = run("evaluate", top / "[1]", top, capsys)
    assert code == ExitCode.REFUSED
    pattern = told.strip().rpartition("name what to read: ")[2]
    assert pattern == f"{top}/[[]1]/*.parquet"
    assert run("evaluate", pattern, top, capsys)[0] == ExitCode.DONE


def test_a_folder_with_nothing_to_read_says_what_it_has(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (top / "in").mkdir()
    for number in range(7):
        (top / "in" / f"{number}.csv").touch()
    for name in JOBS:
        if name not in FLAT:
            code, told = run(name, top / "in", top, capsys)
            assert code == ExitCode.REFUSED
            assert "holds no *.parquet file (it has 0.csv, 1.csv, 2.csv, 3.csv, 4.csv and 2 more); " in told


def test_beside_the_output_of_a_run_other_files_are_named(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard(top / "in" / "part-0.parquet", 0, flat=False)
    for name in ("_run/manifest.json", "_SUCCESS", ".part-0.parquet.crc", "per-query.tsv", "run.trec"):
        (top / "in" / name).parent.mkdir(exist_ok=True)
        (top / "in" / name).write_text(json.dumps({}))
    code, told = run("evaluate", top / "in", top, capsys)
    assert code == ExitCode.DONE
    assert f"note: {top}/in: not read: per-query.tsv, run.trec\n" in told


def moved(path: Path, store: Path) -> None:
    """Put a file elsewhere and leave a link."""
    store.mkdir(exist_ok=True)
    path.rename(store / path.name)
    path.symlink_to(store / path.name)


def test_a_run_and_a_cache_whose_files_were_moved_and_linked_are_whole(
    top: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(top / "in" / "part-0.parquet", 0, flat=False)
    flags = ["--input", f"{top}/in", "--model", f"{top}/model", "--cache", f"{top}/cache", "--unit-pairs", "4"]
    assert execute(["rerank", *flags, "--output", f"{top}/out"]) == ExitCode.DONE
    for path in [*(top / "out").glob("*.parquet"), *(top / "out" / "_run" / "done").iterdir()]:
        moved(path, top / "away")
    (namespace,) = (top / "cache").iterdir()
    for path in namespace.glob("*.parquet"):
        moved(path, top / "store")
    moved(namespace, top / "elsewhere")
    (namespace / f"{'0' * 32}.parquet").symlink_to("gone")
    (namespace / "loop").symlink_to(".")
    capsys.readouterr()

    assert execute(["inspect", f"{top}/out", "--verify"]) == ExitCode.DONE
    assert execute(["rerank", *flags, "--output", f"{top}/out"]) == ExitCode.DONE
    assert "of them before), 0 left" in capsys.readouterr().out
    assert execute(["rerank", *flags, "--output", f"{top}/again"]) == ExitCode.DONE
    told = capsys.readouterr().out
    assert f"{QUERIES * 3} scores came from the cache" in told and "is a link to gone, which is not there" in told
    assert execute(["cache", "stats", f"{top}/cache"]) == ExitCode.DONE
    told = capsys.readouterr().out
    assert f"{QUERIES * 3} entries" in told
    assert "gone, which is not there; left alone" in told and "loop: not a cache file; left alone" in told


def test_a_glob_of_an_unfinished_jobs_files_is_refused_as_its_folder_is(
    top: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(top / "in" / "part-0.parquet", 0, flat=True)
    (top / "in" / "_mine.json").write_text(json.dumps({"complete": False}))
    for name in ("rerank", "label", "export", "train", "train, measured", "compare", "cache"):
        for uri in (f"{top}/in", f"{top}/in/*.parquet", f"{top}/i*"):
            code, told = run(name, uri, top, capsys)
            assert code == ExitCode.REFUSED
            assert "`ray-rerank mine`" in told, (name, uri)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.parquet", True),
        ("a.snappy.parquet", True),
        ("a.PARQUET", True),
        ("a.parquet.part", True),
        ("a.jsonl.zst", True),
        ("all.tar.gz", True),
        ("a.txt.bz2", True),
        ("README.md", False),
        ("LICENSE", False),
        ("dataset_infos.json", False),
        ("run.trec", False),
        ("v1.2", False),
    ],
)
def test_what_looks_like_data(name: str, data: bool) -> None:
    assert is_data(f"/some.csv/{name}") == data
