"""Input, output and cache on a real S3 endpoint, by URI and environment alone; then with a network that fails."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.dataset as pads
import pytest

from ray_rerank.cluster import storage
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.models.fetch import fetched
from support import s3
from support.candidates import rows, sentence, write_candidates
from support.command import execute, without_ray
from support.marks import here
from support.paths import ROOT

IMPATIENT = json.dumps({"config_kwargs": {"connect_timeout": 2, "read_timeout": 2}})  # as a user sets it for fsspec
UNITS = 8

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(s3.missing() is not None, reason=s3.missing() or ""),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Store]:
    """An endpoint with candidates in s3://bucket/in."""
    folder = tmp_path_factory.mktemp("s3")
    with s3.serve(folder / "served") as served:
        (served.folder / "bucket").mkdir()
        for number in range(2):
            content = [row | {"query_id": f"{number}-{row['query_id']}"} for row in rows(12, 10, number)]
            local = write_candidates(folder / "in" / f"{number}.parquet", content, row_group_size=3)
            served.filesystem().put_file(str(local), f"bucket/in/{number}.parquet")
        yield served


@pytest.fixture
def connected(store: s3.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.Store]:
    """The store, which this process finds by its environment; models are fetched below tmp_path."""
    import s3fs

    for name, value in (store.environment() | {"XDG_CACHE_HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield store
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def expected(store: s3.Store, cross_encoder: Path) -> list[dict[str, Any]]:
    """The rows of a run whose input and output are local."""
    local = store.folder.parent
    with without_ray():
        assert execute(rerank(cross_encoder, local / "in", local / "out")) == ExitCode.DONE
    return in_order(pads.dataset(local / "out"))


def rerank(model: Path, given: object, output: object) -> list[str]:
    stage = {"scorer": {"kind": "cross-encoder", "model": str(model), "precision": "fp32"}, "actors": 1}
    job = ["rerank", "--input", str(given), "--output", str(output), "--stages", json.dumps([stage])]
    return [*job, "--unit-pairs", "30"]


def with_cache(name: str) -> list[str]:
    return ["--cache", f"s3://bucket/{name}"]


ON_RAY, ALONE = ("-m", "ray_rerank.jobs"), (str(ROOT / "tests" / "support" / "inline_cli.py"),)


def job(
    environment: dict[str, str], *arguments: str, by: tuple[str, ...] = ON_RAY
) -> "subprocess.CompletedProcess[str]":
    """A process of its own: Ray's workers have the environment of the process that starts Ray."""
    started = time.monotonic()
    command = [sys.executable, *by, *arguments]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    print(f"{time.monotonic() - started:.1f} s, exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
    assert "Traceback" not in ran.stdout + ran.stderr
    return ran


def in_order(found: Any) -> list[dict[str, Any]]:
    return sorted(found.to_table().to_pylist(), key=lambda row: str(row["query_id"]))


def on_s3(store: s3.Store, output: str) -> list[dict[str, Any]]:
    return in_order(pads.dataset(f"bucket/{output}", filesystem=store.filesystem()))


def test_a_job_on_s3_writes_the_rows_of_a_local_one_and_is_not_done_twice(
    store: s3.Store, cross_encoder: Path, expected: list[dict[str, Any]]
) -> None:
    command = [*rerank(cross_encoder, "s3://bucket/in", "s3://bucket/out"), *with_cache("cache")]
    ran = job(store.environment(), *command)
    assert ran.returncode == ExitCode.DONE
    assert on_s3(store, "out") == expected
    assert store.filesystem().glob("bucket/cache/*/*.parquet")
    assert s3.KEY not in ran.stdout and s3.SECRET not in ran.stdout

    looked = job(store.environment(), "inspect", "s3://bucket/out", "--json")
    state = json.loads(looked.stdout)
    assert (looked.returncode, state["units"], state["left"], state["queries"]) == (ExitCode.DONE, UNITS, 0, 24)

    written = {path: info["LastModified"] for path, info in parts(store, "out").items()}
    again = job(store.environment(), *command)
    assert again.returncode == ExitCode.DONE
    assert f"{UNITS} of {UNITS} units done ({UNITS} of them before), 0 left" in again.stdout
    assert {path: info["LastModified"] for path, info in parts(store, "out").items()} == written


def parts(store: s3.Store, output: str) -> dict[str, Any]:
    return dict(store.filesystem().glob(f"bucket/{output}/part-*.parquet", detail=True))


def test_a_job_through_faults_that_pass_writes_the_same_rows(
    store: s3.Store, cross_encoder: Path, expected: list[dict[str, Any]]
) -> None:
    through_faults(store, cross_encoder, "faulty", by=ALONE)
    assert on_s3(store, "faulty") == expected


@pytest.mark.slow
def test_an_outage_ends_the_job_with_one_clear_line_and_the_same_command_goes_on_through_faults_to_the_same_rows(
    store: s3.Store, cross_encoder: Path, expected: list[dict[str, Any]]
) -> None:
    command = [*rerank(cross_encoder, "s3://bucket/in", "s3://bucket/outage"), *with_cache("outage-cache")]
    faults = s3.Faults(share=0.1, stall=3, seed=1, outage_after=60)
    with s3.faulty(store, faults) as endpoint:
        ran = job(store.environment(endpoint, FSSPEC_S3=IMPATIENT), *command)
    assert ran.returncode == ExitCode.REFUSED, faults.seen
    assert "s3://bucket/outage" in ran.stderr.strip().splitlines()[-1]
    done = {path.name for path in (store.folder / "bucket" / "outage" / "_run" / "done").glob("*.json")}
    assert len(done) < UNITS

    before = f" ({len(done)} of them before)" if done else ""
    assert f"{UNITS} of {UNITS} units done{before}, 0 left" in through_faults(store, cross_encoder, "outage")
    assert on_s3(store, "outage") == expected


def through_faults(store: s3.Store, model: Path, output: str, by: tuple[str, ...] = ON_RAY) -> str:
    """What the job prints that ends with every unit done, a tenth of its requests having failed."""
    faults = s3.Faults(share=0.1, stall=3, seed=2)
    with s3.faulty(store, faults) as endpoint:
        command = [*rerank(model, "s3://bucket/in", f"s3://bucket/{output}"), *with_cache(f"{output}-cache")]
        ran = job(store.environment(endpoint, FSSPEC_S3=IMPATIENT), *command, by=by)
    assert faults.seen.total() - faults.seen["none"] >= 5, faults.seen
    assert ran.returncode == ExitCode.DONE
    return ran.stdout


def test_every_storage_function_is_patient_with_faults_that_pass(
    store: s3.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    faults = s3.Faults(share=0.2, stall=1.5, seed=3)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"connect_timeout": 1, "read_timeout": 1}})
    data = random.Random(0).randbytes(5_000_000)
    with s3.faulty(store, faults) as endpoint:
        for name, value in store.environment(endpoint).items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        for number in range(6):
            storage.write_whole(f"s3://bucket/many/{number}.bin", data[:number])
        storage.write_whole("s3://bucket/many/large.bin", data)
        storage.check_writable("s3://bucket/many")
        files = {file.path: file.size for file in storage.list_files("s3://bucket/many", (".bin",))}
        found = storage.read_folder("s3://bucket/many", ".bin")
        with storage.open_read("s3://bucket/many/large.bin") as stream:
            assert stream.seek(-7, 2) == len(data) - 7 and stream.read() == data[-7:]
            assert stream.seek(0) == 0 and stream.read() == data
        assert storage.read_bytes("s3://bucket/many/nothing") is None
    s3fs.S3FileSystem.clear_instance_cache()
    assert found == {"large": data} | {str(number): data[:number] for number in range(6)}
    assert files == {f"s3://bucket/many/{name}.bin": len(content) for name, content in found.items()}
    assert faults.seen.total() - faults.seen["none"] >= 5, faults.seen


@here
def test_from_passages_to_a_student_every_step_reads_and_writes_uris(
    connected: s3.Store, cross_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = connected
    root, random_ = "s3://bucket/loop", random.Random(1)
    store.filesystem().put(f"{cross_encoder}/", "bucket/loop/model/", recursive=True)
    passages = "".join(f"p{number}\t{sentence(random_)} {sentence(random_)}\n" for number in range(40))
    storage.write_whole(f"{root}/passages.tsv", passages.encode())
    asked = ["--passages", f"{root}/passages.tsv", "--qrels", f"{root}/qrels.txt"]
    train = ["train", "--input", f"{root}/labels", "--model", f"{root}/model", "--student", "layers=1"]
    train += ["--epochs", "1", "--output", f"{root}/student"]
    for command in (
        ["queries", *asked, "--output", f"{root}/queries.tsv", "--count", "12"],
        ["mine", *asked, "--queries", f"{root}/queries.tsv", "--source", "random", "--output", f"{root}/mined"],
        ["label", "--input", f"{root}/mined", "--model", f"{root}/model", "--output", f"{root}/labels"],
        ["export", "--input", f"{root}/labels", "--format", "margin-mse", "--output", f"{root}/triplets"],
        [*train, "--checkpoints", str(tmp_path / "checkpoints")],
        ["label", "--input", f"{root}/mined", "--model", f"{root}/student", "--output", f"{root}/again"],
    ):
        assert execute(command) == ExitCode.DONE, capsys.readouterr()
    assert execute([*train, "--checkpoints", str(tmp_path / "checkpoints")]) == ExitCode.DONE
    assert "already trained" in capsys.readouterr().out
    assert execute(train) == ExitCode.REFUSED
    assert "--checkpoints must name a folder" in capsys.readouterr().err
    assert len([path for path in (tmp_path / "ray-rerank" / "models").iterdir() if path.is_dir()]) == 2
    assert on_s3(store, "loop/labels") != on_s3(store, "loop/again")


def test_a_large_model_that_was_uploaded_is_fetched_whole(connected: s3.Store) -> None:
    """rclone gives the whole object's checksum with each part."""
    weights = random.Random(0).randbytes(60_000_000)
    storage.write_whole("s3://bucket/large/model.safetensors", weights)
    folder = fetched("s3://bucket/large/", (".safetensors",))
    assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("given", "output", "secret", "told"),
    [
        ("s3://bucket/in", "s3://bucket/refused", "wrong", "s3://bucket/in: cannot be listed"),
        ("s3://nowhere/in", "s3://bucket/refused", s3.SECRET, "s3://nowhere/in: there is no such file or folder"),
        ("s3://bucket/in", "s3://nowhere/out", s3.SECRET, "s3://nowhere/out: the output cannot be written"),
    ],
)
def test_wrong_credentials_and_a_missing_bucket_are_told_at_once(
    store: s3.Store, cross_encoder: Path, given: str, output: str, secret: str, told: str
) -> None:
    environment = store.environment(AWS_SECRET_ACCESS_KEY=secret)
    ran = job(environment, *rerank(cross_encoder, given, output))
    assert ran.returncode == ExitCode.REFUSED
    assert told in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert s3.KEY not in ran.stderr and s3.SECRET not in ran.stderr
