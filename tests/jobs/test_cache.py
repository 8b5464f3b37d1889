"""A pair scored once is not scored again, by any job, and the cache can be kept in order."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads
import pytest

from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.scorers.registry import scorer_config
from support.candidates import rows, write_candidates
from support.command import execute
from support.models import write_cross_encoder, write_t5
from support.paths import ROOT


def scored(folder: Path, name: str, stages: list[dict[str, Any]], *more: str) -> tuple[list[dict[str, Any]], list[Any]]:
    """Run the job with the cache; its rows, and what each stage cost."""
    output = folder / name
    arguments = ["--input", str(folder / "in"), "--output", str(output), "--stages", json.dumps(stages)]
    code = execute(["rerank", *arguments, "--cache", str(folder / "cache"), "--unit-pairs", "20", *more])
    assert code == ExitCode.DONE
    table = pads.dataset(str(output)).to_table().to_pylist()
    report = json.loads((output / "_run" / "report.json").read_text())
    return sorted(table, key=lambda row: str(row["query_id"])), report["stages"]


def stage(model: Path, **fields: Any) -> dict[str, Any]:
    return {"scorer": {"model": str(model), "precision": "fp32", **fields}, "actors": 1}


def scores(table: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    return {(row["query_id"], c["doc_id"]): c["score"] for row in table for c in row["ranking"]}


@pytest.mark.usefixtures("in_process")
def test_warm_and_half_warm_runs_give_the_rows_of_a_cold_one(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(20, 8))
    cold, work = scored(tmp_path, "cold", [stage(cross_encoder)])
    assert work[0]["cached"] == 0 and work[0]["evaluations"] == 160
    plan = ["rerank", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "warm"), "--model"]
    plan += [str(cross_encoder), "--cache", str(tmp_path / "cache"), "--dry-run"]
    assert execute(plan) == ExitCode.DONE
    assert "100% fp32 of 160 pairs of stage 1" in capsys.readouterr().out
    warm, work = scored(tmp_path, "warm", [stage(cross_encoder)])
    assert warm == cold, "not the same bits"
    assert (work[0]["cached"], work[0]["evaluations"]) == (160, 0)
    assert "160 scores came from the cache, which saved" in capsys.readouterr().out

    runs = sorted((tmp_path / "cache").glob("*/*.parquet"))
    for run in runs[::2]:
        run.unlink()
    half, work = scored(tmp_path, "half", [stage(cross_encoder)])
    assert 0 < work[0]["cached"] < 160 and work[0]["cached"] + work[0]["evaluations"] == 160
    assert scores(half).keys() == scores(cold).keys()
    assert scores(half) == pytest.approx(scores(cold), abs=1e-5)


@pytest.mark.usefixtures("in_process")
def test_another_job_with_other_candidates_takes_the_pairs_that_it_shares(tmp_path: Path, cross_encoder: Path) -> None:
    content = rows(10, 8)
    write_candidates(tmp_path / "in" / "a.parquet", content)
    scored(tmp_path, "one", [stage(cross_encoder)])
    shutil.rmtree(tmp_path / "in")
    more = [row | {"query_id": f"again-{row['query_id']}"} for row in content[:4]] + rows(3, 5, seed=9)
    write_candidates(tmp_path / "in" / "b.parquet", more)
    _, work = scored(tmp_path, "two", [stage(cross_encoder)])
    assert (work[0]["cached"], work[0]["evaluations"]) == (32, 15)


@pytest.mark.usefixtures("in_process")
def test_each_stage_of_a_cascade_and_the_comparisons_of_a_pairwise_scorer_are_kept(
    tmp_path: Path, cross_encoder: Path
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(6, 8))
    t5 = write_t5(tmp_path / "t5")
    stages = [stage(cross_encoder) | {"keep": 4}, stage(t5, kind="duot5")]
    cold, work = scored(tmp_path, "cold", stages)
    assert work[1]["evaluations"] > work[1]["pairs"]
    warm, again = scored(tmp_path, "warm", stages)
    assert warm == cold
    assert [one["evaluations"] for one in again] == [0, 0]
    other = [stages[0], stage(t5, kind="duot5", aggregation="binary")]
    _, again = scored(tmp_path, "other", other)
    assert again[1]["evaluations"] == 0, "the same comparisons, added up in another way"


@pytest.mark.usefixtures("in_process")
def test_another_scorer_takes_nothing(tmp_path: Path, cross_encoder: Path) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(4, 5))
    scored(tmp_path, "one", [stage(cross_encoder)])
    moved = Path(shutil.copytree(cross_encoder, tmp_path / "moved" / "elsewhere"))
    assert scored(tmp_path, "moved-run", [stage(moved)])[1][0]["cached"] == 20
    other = write_cross_encoder(tmp_path / "other", seed=5)
    for number, differs in enumerate([stage(other), stage(cross_encoder, max_length=24)]):
        assert scored(tmp_path, f"differs-{number}", [differs])[1][0]["cached"] == 0


@pytest.mark.usefixtures("in_process")
def test_a_spoilt_cache_costs_its_entries_and_is_told(
    tmp_path: Path, cross_encoder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(10, 8))
    cold, _ = scored(tmp_path, "cold", [stage(cross_encoder)])
    first, second, *_ = sorted((tmp_path / "cache").glob("*/*.parquet"))
    first.write_bytes(first.read_bytes()[:100])
    second.write_text("a stranger")
    again, work = scored(tmp_path, "again", [stage(cross_encoder)])
    assert scores(again) == pytest.approx(scores(cold), abs=1e-5)
    assert 0 < work[0]["cached"] < 80
    assert first.name in capfd.readouterr().out
    assert execute(["cache", "verify", str(tmp_path / "cache"), "--json"]) == ExitCode.DONE_WITH_ERRORS
    listed = {Path(fault["file"]).name for fault in json.loads(capfd.readouterr().out)}
    assert listed == {first.name, second.name}


@pytest.mark.usefixtures("in_process")
def test_two_jobs_at_once_lose_nothing(tmp_path: Path, cross_encoder: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        write_candidates(tmp_path / name / "in" / "x.parquet", rows(12, 6, seed))

    def job(name: str, output: str) -> list[str]:
        command = ["rerank", "--input", str(tmp_path / name / "in"), "--output", str(tmp_path / name / output)]
        command += ["--stages", json.dumps([stage(cross_encoder)]), "--cache", str(tmp_path / "cache")]
        return [*command, "--unit-pairs", "9"]

    script = str(ROOT / "tests" / "support" / "inline_cli.py")
    both = [subprocess.Popen([sys.executable, script, *job(name, "cold")], cwd=ROOT) for name in ("a", "b")]
    assert [process.wait() for process in both] == [0, 0]
    for name in ("a", "b"):
        assert execute(job(name, "warm")) == ExitCode.DONE
        report = json.loads((tmp_path / name / "warm" / "_run" / "report.json").read_text())
        assert report["stages"][0]["evaluations"] == 0


@pytest.mark.usefixtures("in_process")
def test_stats_compact_and_export(tmp_path: Path, cross_encoder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = rows(12, 6)
    write_candidates(tmp_path / "in" / "a.parquet", content)
    cold, _ = scored(tmp_path, "cold", [stage(cross_encoder)])
    cache = str(tmp_path / "cache")

    def stats() -> dict[str, Any]:
        capfd.readouterr()
        assert execute(["cache", "stats", cache, "--json"]) == ExitCode.DONE
        (one,) = json.loads(capfd.readouterr().out)
        return dict(one)

    before = stats()
    assert before["entries"] == 72 and before["runs"] > 1 and before["bad_files"] == []
    assert before["identity"]["kind"] == "cross-encoder"
    assert execute(["cache", "compact", cache]) == ExitCode.DONE
    assert (stats()["entries"], stats()["runs"]) == (72, 1)
    assert execute(["cache", "verify", cache]) == ExitCode.DONE
    warm, work = scored(tmp_path, "warm", [stage(cross_encoder)])
    assert warm == cold and work[0]["evaluations"] == 0

    plain = ["cache", "export", cache, "--output", str(tmp_path / "hashes"), "--scorer", before["scorer"][:6]]
    assert execute(plain) == ExitCode.DONE
    table = pads.dataset(str(tmp_path / "hashes")).to_table()
    assert table.num_rows == 72 and table.column_names == ["query_hash", "document_hash", "score"]
    assert set(map(len, table["query_hash"].to_pylist())) == {32}
    joined = ["cache", "export", cache, "--output", str(tmp_path / "joined"), "--candidates", str(tmp_path / "in")]
    assert execute(joined) == ExitCode.DONE
    exported = pads.dataset(str(tmp_path / "joined")).to_table().to_pylist()
    assert {(row["query_id"], row["doc_id"]): row["score"] for row in exported} == scores(cold)


@pytest.mark.usefixtures("in_process")
def test_an_export_says_what_the_cache_lacks_and_does_not_mix_with_other_files(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = rows(6, 5)
    write_candidates(tmp_path / "in" / "a.parquet", content[:4])
    scored(tmp_path, "cold", [stage(cross_encoder)])
    write_candidates(tmp_path / "in" / "b.parquet", content[4:])
    command = ["cache", "export", str(tmp_path / "cache"), "--candidates", str(tmp_path / "in"), "--output"]
    assert execute([*command, str(tmp_path / "out")]) == ExitCode.DONE
    assert "10 of 30 candidates are not in the cache" in capsys.readouterr().out
    for taken, told in ((tmp_path / "out", "holds files already"), (tmp_path / "cache" / "x", "lies in the cache")):
        assert execute([*command, str(taken)]) == ExitCode.REFUSED
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("action", ["stats", "verify", "compact"])
def test_what_is_no_cache_is_refused_and_nobody_is_told_to_remove_it(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(2, 2))
    for path in (tmp_path, tmp_path / "in", tmp_path / "in" / "a.parquet"):
        assert execute(["cache", action, str(path)]) == ExitCode.REFUSED
        assert "is no score cache" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["stats", "nowhere"], "there is no such file or folder"),
        (["burn", "nowhere"], "action"),
        (["export", "nowhere"], "--output"),
        (["stats", "nowhere", "--output", "x"], "--output"),
        (["stats", ""], "cache"),
    ],
)
def test_what_cannot_be_done_to_a_cache_is_said(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["cache", *arguments]) == ExitCode.REFUSED
    assert told in capsys.readouterr().err


class TestIdentity:
    """What is in a scorer's namespace: one change at a time."""

    @pytest.fixture(scope="class")
    @classmethod
    def t5(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_t5(tmp_path_factory.mktemp("t5") / "model")

    def identity(self, model: Path, **fields: Any) -> dict[str, Any]:
        return scorer_config({"kind": "monot5", "model": str(model), **fields}).evaluation_identity()

    def test_weights(self, t5: Path, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        other = Path(shutil.copytree(t5, tmp_path / "other"))
        weights = load_file(other / "model.safetensors")
        weights["shared.weight"][3, 3] += 1e-3
        save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
        assert self.identity(other) != self.identity(t5)

    def test_tokenizer(self, t5: Path, tmp_path: Path) -> None:
        other = Path(shutil.copytree(t5, tmp_path / "other"))
        text = (other / "tokenizer.json").read_text()
        (other / "tokenizer.json").write_text(text.replace("-3.0", "-4.0", 1))
        assert self.identity(other) != self.identity(t5)

    @pytest.mark.parametrize(
        "fields",
        [
            {"template": "Query: {query} Text: {document} Relevant:"},
            {"targets": ["▁true", "▁false"]},
            {"max_length": 100},
            {"caps": {"query": 9}},
            {"truncation": "documents_first"},
            {"reduction": "difference"},
            {"precision": "bf16"},
            {"decoder_prefix": "▁"},
            {"end_token": False},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_config(self, t5: Path, fields: dict[str, Any]) -> None:
        assert self.identity(t5, **fields) != self.identity(t5)

    def test_renaming_or_moving_the_directory_changes_nothing(self, t5: Path, tmp_path: Path) -> None:
        moved = Path(shutil.copytree(t5, tmp_path / "deep" / "down" / "renamed"))
        (moved / "README.md").write_text("a card")
        assert self.identity(moved, batch_tokens=5) == self.identity(t5)
        assert np.array_equal(
            scorer_config({"kind": "monot5", "model": str(moved)}).load().score([("a", "b")]),
            scorer_config({"kind": "monot5", "model": str(t5)}).load().score([("a", "b")]),
        )
