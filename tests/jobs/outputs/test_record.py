"""What made a folder is read from the files as they have been written so far, and decides what the next run may do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from ray_rerank.cluster.errors import OutputConflictError
from ray_rerank.cluster.run_folder import RunFolder, commit
from ray_rerank.cluster.storage import StoredFile, fingerprint
from ray_rerank.cluster.units import Unit, save_plan
from ray_rerank.jobs import cache, export, loop
from ray_rerank.jobs.cache import _tables_there
from ray_rerank.jobs.export.job import _claim as claim_export
from ray_rerank.jobs.loop import _claim as claim_loop
from ray_rerank.jobs.outputs import shards
from ray_rerank.jobs.outputs.record import FolderRecord, differences, files_to_replace
from ray_rerank.jobs.scoring.claim import RunClaim, claim_run
from ray_rerank.jobs.train.state import claimed, is_finished

UNIT = Unit("000000-00aa", "/in/a.parquet", 0, 2, 4)
OTHER = Unit("000001-00bb", "/in/b.parquet", 0, 2, 4)
RESULTS, NONE = pa.table({"query_id": ["q"]}), pa.table({"reason": pa.array([], pa.string())})
INPUT = StoredFile("/in/queries.tsv", 7, "1.0")
MARKER = {"pairs": 4, "ranked": 4, "works": [], "moments": []}

Claim = Callable[[Path, int, bool], bool | None]
"""Claims a folder for a run with this seed and `overwrite`; whether it resumes, or is done already."""


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_run(folder: Path, finished: bool, job: str) -> None:
    output = RunFolder(str(folder))
    identity = {{"rerank": "stages", "label": "teachers"}[job]: [{"seed": 0}]}
    write_json(folder / "_run" / "manifest.json", {"format": 1, "identity": identity, "created": 1.0})
    save_plan(output.internal("plan.parquet"), [UNIT, OTHER])
    for unit in [UNIT, OTHER] if finished else [UNIT]:
        commit(output, unit, RESULTS, NONE, MARKER)


def claim_as(job: str) -> Claim:
    def claim(folder: Path, seed: int, overwrite: bool) -> bool:
        identity = {{"rerank": "stages", "label": "teachers"}[job]: [{"seed": seed}]}
        return claim_run(RunClaim(job, RunFolder(str(folder)), identity, [UNIT, OTHER], overwrite))

    return claim


def write_shards(folder: Path, finished: bool, job: str) -> None:
    digest = fingerprint(json.dumps([{"seed": 0}, [[INPUT.path, INPUT.size, INPUT.version]]], sort_keys=True).encode())
    name = "candidates-00000-of-00001.parquet"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"shard")
    whole = {"shards": [name], "queries": 1, "left_out": {}, "first": {}, "notes": [], "seconds": 0.1}
    whole |= {"sizes": {name: 5}, "candidates": 1, "passages": 1, "positives": 1, "negatives": {}}
    write_json(folder / f"_{job}.json", {"identity": digest, "complete": finished, **(whole if finished else {})})


def claim_shards(job: str) -> Claim:
    def claim(folder: Path, seed: int, overwrite: bool) -> bool:
        return shards.claim(str(folder), {"seed": seed}, [INPUT], overwrite, job).finished is not None

    return claim


def export_config(folder: Path, seed: int, overwrite: bool = False) -> export.Config:
    return export.Config(input="/in", format="mse", output=str(folder), seed=seed, overwrite=overwrite)


def write_export(folder: Path, finished: bool) -> None:
    made = {"input": "/in", "format": "mse", "positives": "auto", "negatives": None, "min_margin": None, "seed": 0}
    made |= {"tuples": None, "integer_ids": False, "files": ["train.parquet"], "complete": finished}
    write_json(folder / "_export" / "export.json", made)
    if finished:
        (folder / "train.parquet").write_bytes(b"table")


def claim_of_export(folder: Path, seed: int, overwrite: bool) -> None:
    assert set(claim_export(export_config(folder, seed, overwrite), str(folder))) <= {"train.parquet"}


def write_training(folder: Path, finished: bool) -> None:
    if finished:
        write_json(folder / "training.json", {"settings": {"seed": 0}, "pairs": 1})
        save_file({"weight": np.zeros(3, np.float32)}, folder / "model.safetensors")
    else:
        checkpoints = folder.with_name(f"{folder.name}.checkpoints")
        write_json(checkpoints / "training.json", {"seed": 0})
        write_json(checkpoints / "checkpoint-2" / "trainer_state.json", {})


def claim_training(folder: Path, seed: int, overwrite: bool) -> bool:
    checkpoints = folder.with_name(f"{folder.name}.checkpoints")
    if is_finished(str(folder), checkpoints, {"seed": seed}, overwrite):
        return True
    with claimed(str(folder), checkpoints, {"seed": seed}, overwrite):
        return (checkpoints / "checkpoint-2" / "trainer_state.json").exists()


def loop_config(folder: Path, seed: int, overwrite: bool = False) -> loop.Config:
    return loop.Config(beir="/in", teacher="t", output=str(folder), seed=seed, overwrite=overwrite)


def write_loop(folder: Path, finished: bool) -> None:
    settings = loop_config(folder, 0).model_dump(
        mode="json", exclude={"output", "timing", "trainings", "overwrite", "executor"}
    )
    write_json(folder / "loop.json", settings)
    write_training(folder / "students" / "bm25-0", True)
    write_shards(folder / "mined" / "bm25", True, "mine")
    write_run(folder / "labels", True, "label")
    if finished:
        write_json(folder / "comparison" / "comparison.json", {})


def claim_of_loop(folder: Path, seed: int, overwrite: bool) -> bool:
    claim_loop(loop_config(folder, seed, overwrite), folder)
    return (folder / "labels" / "_run" / "manifest.json").exists()


JOBS: dict[str, tuple[Callable[[Path, bool], None], Claim]] = {
    "rerank": (lambda folder, finished: write_run(folder, finished, "rerank"), claim_as("rerank")),
    "label": (lambda folder, finished: write_run(folder, finished, "label"), claim_as("label")),
    "prepare": (lambda folder, finished: write_shards(folder, finished, "prepare"), claim_shards("prepare")),
    "mine": (lambda folder, finished: write_shards(folder, finished, "mine"), claim_shards("mine")),
    "export": (write_export, claim_of_export),
    "train": (write_training, claim_training),
    "loop": (write_loop, claim_of_loop),
}
REMADE = {"prepare", "mine"}  # these begin anew where they were stopped

every_job = pytest.mark.parametrize("job", JOBS)
both_states = pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])


def content(top: Path) -> dict[str, bytes]:
    files = [path for path in top.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(top)): path.read_bytes() for path in files}


@every_job
@both_states
def test_the_same_run_resumes_or_is_done(tmp_path: Path, job: str, finished: bool) -> None:
    write, claim = JOBS[job]
    write(tmp_path / "out", finished)
    assert claim(tmp_path / "out", 0, False) in {None, finished or job not in REMADE}


@every_job
@both_states
def test_other_settings_are_refused_by_name_and_replaced_on_request(tmp_path: Path, job: str, finished: bool) -> None:
    write, claim = JOBS[job]
    write(tmp_path / "out", finished)
    before = content(tmp_path)
    differs = r"does not say which" if job in REMADE else r"seed: 0 -> 1"
    with pytest.raises(OutputConflictError, match=rf"(?s)another `ray-rerank {job}`.*{differs}.*--overwrite"):
        claim(tmp_path / "out", 1, False)
    assert content(tmp_path) == before
    assert not claim(tmp_path / "out", 1, True)


@every_job
def test_only_what_is_finished_is_made_anew_by_overwriting(tmp_path: Path, job: str) -> None:
    write, claim = JOBS[job]
    for finished in (True, False):
        write(tmp_path / f"{finished}", finished)
        assert claim(tmp_path / f"{finished}", 0, True) in {None, not finished and job not in REMADE}


@every_job
@both_states
def test_unknown_files_are_never_overwritten(tmp_path: Path, job: str, finished: bool) -> None:
    write, claim = JOBS[job]
    write(tmp_path / "out", finished)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "thesis.parquet").write_text("years of work")
    before = content(tmp_path)
    with pytest.raises(OutputConflictError, match=rf"files that {job} did not write \(thesis\.parquet\)"):
        claim(tmp_path / "out", 1, True)
    assert content(tmp_path) == before


@every_job
def test_a_folder_without_a_record_is_never_overwritten(tmp_path: Path, job: str) -> None:
    _, claim = JOBS[job]
    (tmp_path / "out").mkdir()
    name = "model.safetensors" if job in {"train", "loop"} else "part-0.parquet"
    (tmp_path / "out" / name).write_text("a download")
    with pytest.raises(OutputConflictError, match=name):
        claim(tmp_path / "out", 0, True)


def test_what_another_job_wrote_is_refused_even_to_overwrite(tmp_path: Path) -> None:
    write_run(tmp_path, True, "label")
    for overwrite in (False, True):
        with pytest.raises(OutputConflictError, match="holds the output of `ray-rerank label`"):
            claim_as("rerank")(tmp_path, 0, overwrite)


def test_a_new_record_of_shards_says_which_setting_and_which_input_differ(tmp_path: Path) -> None:
    shards._write_manifest(shards.claim(str(tmp_path), {"seed": 0}, [INPUT], False), {"complete": False})
    changed = StoredFile(INPUT.path, 8, "2.0")
    with pytest.raises(OutputConflictError) as error:
        shards.claim(str(tmp_path), {"seed": 1}, [changed, StoredFile("/in/new.tsv", 1, "1")], False)
    for line in ("seed: 0 -> 1", "input /in/queries.tsv: has changed since", "input /in/new.tsv: is new"):
        assert f"\n  {line}\n" in str(error.value)


@pytest.mark.parametrize("columns", cache._COLUMNS)
def test_an_export_of_a_cache_is_known_by_its_names_and_columns(tmp_path: Path, columns: list[str]) -> None:
    def config(overwrite: bool) -> cache.Config:
        return cache.Config(action="export", cache="/cache", output=str(tmp_path), overwrite=overwrite)

    pq.write_table(pa.table({name: [0.5] for name in columns}), tmp_path / "part-00000.parquet")
    with pytest.raises(OutputConflictError, match=r"holds files already \(part-00000\.parquet\); add --overwrite"):
        _tables_there(config(False), str(tmp_path))
    assert _tables_there(config(True), str(tmp_path)) == ["part-00000.parquet"]
    pq.write_table(pa.table({"text": ["a page"]}), tmp_path / "part-00001.parquet")
    with pytest.raises(OutputConflictError, match=r"cache export did not write \(part-00001\.parquet\)"):
        _tables_there(config(True), str(tmp_path))


def test_shared_scores_and_vectors_outlive_an_overwriting(tmp_path: Path) -> None:
    write_loop(tmp_path, True)
    for name in ("cache/scores.parquet", "vectors/a/part.parquet", "mined/bm25/_mine/0a/pool.parquet"):
        write_json(tmp_path / name, {})
    claim_of_loop(tmp_path, 1, True)
    assert set(content(tmp_path)) == {
        "loop.json", "cache/scores.parquet", "vectors/a/part.parquet", "mined/bm25/_mine/0a/pool.parquet"
    }  # fmt: skip


def test_records_are_removed_last(tmp_path: Path) -> None:
    write_run(tmp_path, True, "rerank")
    names = files_to_replace(str(tmp_path), "rerank")
    assert [name.startswith("_run/") for name in names] == [False] * 2 + [True] * 4


def test_records_that_differ_in_nothing_recorded_still_differ() -> None:
    one, other = (FolderRecord("prepare", {"seed": 0}, {}, identity) for identity in ("a", "b"))
    assert differences(one, one) == []
    assert differences(one, other) == ["settings or inputs; the record does not say which"]
