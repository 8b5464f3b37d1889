"""`--overwrite` of whole jobs: what it replaces, and that every job that writes a folder has it."""

from importlib import import_module
from pathlib import Path

import pyarrow.dataset as pads
import pytest

from ray_rerank.jobs.exit_codes import ExitCode
from support.candidates import rows, write_candidates
from support.command import execute

pytestmark = pytest.mark.usefixtures("in_process")


def test_every_job_that_writes_a_folder_says_the_same_of_it() -> None:
    jobs = ("rerank", "label", "prepare", "mine", "export", "train", "loop", "cache")
    fields = [import_module(f"ray_rerank.jobs.{job}").Config.model_fields["overwrite"] for job in jobs]
    assert len({field.description for field in fields}) == 1
    assert not any(field.default for field in fields)


@pytest.mark.parametrize("job", ["rerank", "label"])
def test_another_run_is_replaced_and_its_dry_run_counts_nothing_as_done(
    tmp_path: Path, cross_encoder: Path, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(4, 3))
    command = [job, "--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out", "--model", str(cross_encoder)]
    assert execute([*command, "--max-length", "16"]) == ExitCode.DONE
    assert execute(command) == ExitCode.REFUSED
    assert "max_length: 16 -> 128" in capsys.readouterr().err
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert execute([*command, "--overwrite", "--dry-run"]) == ExitCode.DONE
    assert "of which 0 are done" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before
    assert execute([*command, "--overwrite"]) == ExitCode.DONE
    assert execute([*command, "--output", f"{tmp_path}/fresh"]) == ExitCode.DONE
    one, other = (pads.dataset(str(tmp_path / name)).to_table() for name in ("out", "fresh"))
    assert one == other
    assert execute(command) == ExitCode.DONE


def test_a_run_file_inside_the_output_is_not_in_the_way(tmp_path: Path, cross_encoder: Path) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(4, 3))
    command = ["rerank", "--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out", "--model", str(cross_encoder)]
    command += ["--trec-run", f"{tmp_path}/out/run.txt"]
    assert execute(command) == ExitCode.DONE
    assert execute([*command, "--include-text", "--overwrite"]) == ExitCode.DONE
    assert (tmp_path / "out" / "run.txt").exists()


def test_a_tables_folder_of_a_cache_is_replaced_on_request(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(4, 3))
    cache = str(tmp_path / "cache")
    scored = ["rerank", "--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out", "--model", str(cross_encoder)]
    assert execute([*scored, "--cache", cache]) == ExitCode.DONE
    command = ["cache", "export", cache, "--output", str(tmp_path / "tables")]
    assert execute(command) == ExitCode.DONE
    assert execute(command) == ExitCode.REFUSED
    assert execute([*command, "--overwrite", "--candidates", f"{tmp_path}/in"]) == ExitCode.DONE
    assert pads.dataset(str(tmp_path / "tables")).to_table().column_names == ["query_id", "doc_id", "score"]
    assert execute(["cache", "stats", cache, "--overwrite"]) == ExitCode.REFUSED
    assert "--overwrite goes with `export`" in capsys.readouterr().err
