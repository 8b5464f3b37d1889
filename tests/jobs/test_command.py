"""The command line itself: what it lists, and a reader that goes away."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.command import JOBS, ExitCode, execute

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arguments", [["--help"], [], ["nope"]])
def test_without_a_job_all_jobs_are_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(arguments) == (ExitCode.DONE if arguments == ["--help"] else ExitCode.REFUSED)
    told = capsys.readouterr()
    assert all(f"ray-rerank {name}" in told.out for name in JOBS)
    assert ("no job called 'nope'" in told.err) == (arguments == ["nope"])


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:geheim@bucket/in",
        "https://geheim@host/in",
        "https://host/in.tsv?versionId=3&X-Amz-Signature=geheim",
        "https://host/in.tsv?access_token=geheim",
    ],
)
def test_a_secret_in_a_uri_is_refused_and_not_repeated(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    stages = json.dumps([{"scorer": {"kind": "cross-encoder", "model": uri}}])
    for arguments, name in (
        (["--input", uri, "--model", "m"], "input"),
        (["--input", "in", "--stages", stages], "stages"),
    ):
        assert execute(["rerank", *arguments, "--output", "out"]) == ExitCode.REFUSED
        told = capsys.readouterr()
        assert f"`{name}` carries a password, token or signature" in told.err
        assert "geheim" not in told.err + told.out


@pytest.mark.parametrize("name", list(JOBS))
def test_a_jobs_help_begins_with_how_it_is_called(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        execute([name, "--help"])
    assert ended.value.code == ExitCode.DONE
    assert capsys.readouterr().out.startswith(f"usage: ray-rerank {name} [-h] ")


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["mine", "--help"]])
def test_a_reader_that_has_read_enough_is_no_fault(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "jobs", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == ExitCode.DONE
