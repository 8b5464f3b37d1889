"""`--json` is one thing in all jobs that have it: a file, or standard output where no value follows."""

import json
from pathlib import Path

import pytest

from ray_rerank.jobs.cli.arguments import parse
from ray_rerank.jobs.exit_codes import ExitCode
from support.candidates import rows, write_candidates
from support.command import execute, without_ray
from support.option_models import configs

WITH_JSON = {name for name, config in configs().items() if "json_file" in config.model_fields}


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, cross_encoder: Path) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("ranked")
    write_candidates(folder / "in" / "a.parquet", rows(3, 4))
    (folder / "qrels.txt").write_text("q0 0 d0-1 1\nq1 0 d1-0 1\n")
    command = ["rerank", "--input", f"{folder}/in", "--model", str(cross_encoder), "--output", f"{folder}/out"]
    with without_ray():
        assert execute([*command, "--cache", f"{folder}/cache"]) == ExitCode.DONE
    return {
        "inspect": ["inspect", f"{folder}/out"],
        "models": ["models"],
        "cache": ["cache", "stats", f"{folder}/cache"],
        "evaluate": ["evaluate", "--ranking", f"{folder}/out", "--qrels", f"{folder}/qrels.txt"],
    }


def test_every_job_that_has_it_is_tried(commands: dict[str, list[str]]) -> None:
    assert set(commands) == WITH_JSON
    descriptions = [configs()[name].model_fields["json_file"].description for name in WITH_JSON]
    assert all(text and "without a value, to standard output" in text for text in descriptions)


@pytest.mark.parametrize("job", sorted(WITH_JSON))
def test_without_a_value_standard_output_holds_json_alone(
    job: str, commands: dict[str, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    for flags in (["--json"], ["--json", "-"]):
        capfd.readouterr()
        assert execute([*commands[job], *flags]) == ExitCode.DONE
        assert json.loads(capfd.readouterr().out)


@pytest.mark.parametrize("job", sorted(WITH_JSON))
def test_a_file_holds_the_same_json_and_the_text_is_printed(
    job: str, commands: dict[str, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute([*commands[job], "--json"]) == ExitCode.DONE
    printed = json.loads(capfd.readouterr().out)
    assert execute([*commands[job], "--json", str(tmp_path / "file.json")]) == ExitCode.DONE
    text = capfd.readouterr().out
    assert json.loads((tmp_path / "file.json").read_text()) == printed
    assert text and not text.startswith(("{", "["))


@pytest.mark.parametrize(("value", "path"), [("true", "-"), ("false", None), ("a.json", "a.json"), ("null", None)])
def test_a_job_file_takes_what_it_took_before(tmp_path: Path, value: str, path: str | None) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(f"json: {value}\n")
    assert parse(configs()["models"], [str(job)]).json_file == path
