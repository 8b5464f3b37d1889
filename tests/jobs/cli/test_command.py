"""The command line itself: what it lists, and a reader that goes away."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ray_rerank.jobs.cli import command
from ray_rerank.jobs.cli.command import JOBS
from ray_rerank.jobs.exit_codes import ExitCode
from support.command import execute
from support.paths import ROOT

GONE = "the current folder has been deleted; change to one that exists"


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


@pytest.mark.parametrize(
    ("shell", "code", "told"),
    [
        ("{} models > /dev/full", 2, "ray-rerank: standard output cannot be written: No space left on device\n"),
        ("{} --help >&-", 0, ""),
        ("{} nope 2>&- >/dev/null", 2, ""),
        ("{} inspect nowhere <&- >&- 2>/dev/full", 2, ""),
        ("PYTHONIOENCODING=ascii {} models >/dev/null", 0, ""),
        ("mkdir gone; cd gone; rmdir ../gone; {} inspect ..", 2, f"ray-rerank inspect: {GONE}\n"),
    ],
)  # fmt: skip
def test_standard_streams_of_any_kind_are_no_traceback(tmp_path: Path, shell: str, code: int, told: str) -> None:
    line = shell.format(f"PYTHONPATH={ROOT} {sys.executable} -m ray_rerank.jobs")
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (code, told)


STREAMS = r"""
from ray_rerank.jobs.cli.streams import StandardStreams
streams = StandardStreams()
print('…\udcff' * 3)
print(streams.fault())
"""


def test_what_the_encoding_does_not_have_is_written_as_an_escape() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-c", STREAMS], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\\u2026\\udcff" * 3 + "\nNone\n", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["inspect", "--", "-folder"], "-folder: no run has begun here"),
        (["inspect", "--", "--help"], "--help: no run has begun here"),
        (["rerank", "--", "-job.yaml"], "-job.yaml: "),
        (["rerank", "--input=-in", "--model", "m", "--output", "o"], "-in: there is no such file"),
        (["inspect", "-folder"], "is given as --FLAG=VALUE, or last, behind `--`"),
        (["inspect", "a", "--", "-b"], "'-b' is one argument too many: OUTPUT can stand without a flag"),
    ],
)
def test_names_that_begin_with_a_dash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert execute(arguments) == ExitCode.REFUSED
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", list(JOBS))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_job_and_only_what_goes_on_is_said_to(
    name: str, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object) -> int:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise ValueError("what comes of it") from None
        return 0

    monkeypatch.setattr(command, "_run", run)
    assert execute([name]) == 128 + number
    told = capsys.readouterr().err
    assert told.startswith(f"ray-rerank {name}: stopped") and told.count("\n") == 1
    assert ("the same command goes on from here" in told) == (name in command._RESUMED)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (MemoryError("malloc of size 9"), ExitCode.REFUSED, "there is not enough memory on this machine (malloc of"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), ExitCode.REFUSED, "No space left on device: '/x'"),
        (ZeroDivisionError("division by zero"), ExitCode.FAILED, "a fault of ray-rerank's own; please report it"),
    ],
)
def test_what_no_step_foresaw_is_told_too(
    error: Exception, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object) -> int:
        raise error

    monkeypatch.setattr(command, "_run", run)
    assert execute(["rerank"]) == code
    said = capsys.readouterr().err
    assert told in said.splitlines()[-1]
    assert ("Traceback" in said) == (code == ExitCode.FAILED)


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["mine", "--help"]])
def test_a_reader_that_has_read_enough_is_no_fault(arguments: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ray_rerank.jobs", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == ExitCode.DONE
