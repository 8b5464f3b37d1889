"""A file goes where its user says, through links, into pipes, to standard output; or is refused before any work."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from ray_rerank.jobs.cli.command import JOBS
from ray_rerank.jobs.config import JobConfig
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.outputs.files import named_files
from support.candidates import rows, write_candidates
from support.command import execute, without_ray
from support.paths import ROOT

FILES = [
    ("evaluate", "json"),
    ("evaluate", "per-query"),
    ("queries", "output"),
    ("queries", "qrels"),
    ("cache", "json"),
    ("inspect", "json"),
    ("models", "json"),
    ("rerank", "trec-run"),
]
each_file = pytest.mark.parametrize(("job", "flag"), FILES)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, cross_encoder: Path) -> Path:
    """What the jobs read."""
    folder = tmp_path_factory.mktemp("given")
    write_candidates(folder / "in" / "a.parquet", rows(3, 3))
    (folder / "qrels.txt").write_text("q0 0 d0-1 1\nq1 0 d1-0 1\n")
    (folder / "passages.tsv").write_text("p0\tThe soil of a cactus should dry out between two waterings.\n")
    (folder / "model").symlink_to(cross_encoder)
    command = ["rerank", "--input", f"{folder}/in", "--model", str(cross_encoder), "--cache", f"{folder}/cache"]
    with without_ray():
        assert execute([*command, "--output", f"{folder}/ranked"]) == ExitCode.DONE
    return folder


def arguments(job: str, flag: str, path: str, given: Path, output: Path) -> list[str]:
    more = {
        "evaluate": ["--ranking", f"{given}/in", "--qrels", f"{given}/qrels.txt", "--measures", "RR@10"],
        "cache": ["stats", f"{given}/cache"],
        "inspect": [f"{given}/ranked"],
        "models": ["--kind", "colbert"],
        "queries": ["--passages", f"{given}/passages.tsv", "--count", "1"],
        "rerank": ["--input", f"{given}/in", "--model", f"{given}/model", "--output", str(output / "reranked")],
    }[job]
    beside = ["--output", str(output / "queries.tsv")] if (job, flag) == ("queries", "qrels") else []
    return [job, *more, *beside, f"--{flag}", path]


@pytest.fixture(scope="module")
def expected(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], bytes]:
    """What each file holds, as it is written to a new file."""
    known: dict[tuple[str, str], bytes] = {}

    def content(job: str, flag: str) -> bytes:
        if (job, flag) not in known:
            folder = tmp_path_factory.mktemp("plain")
            with without_ray():
                assert execute(arguments(job, flag, str(folder / "file"), given, folder)) == ExitCode.DONE
            known[job, flag] = (folder / "file").read_bytes()
        return known[job, flag]

    return content


def test_every_file_that_a_job_writes_is_tried_here() -> None:
    values = {"ranking": "r", "qrels": "q", "passages": "p", "input": "i", "output": "o", "model": "m"}
    found = []
    for name in JOBS:
        config: type[JobConfig] = import_module(f"ray_rerank.jobs.{name}").Config
        fields = config.model_fields
        made = config.model_construct(**{field: values.get(field, "x") for field in fields})
        found += [(name, flag.removeprefix("--")) for flag in named_files(made)[0]]
    assert sorted(found) == sorted(FILES)


def new(path: Path) -> Path:
    return path


def old(path: Path) -> Path:
    path.write_text("longer than what is written " * 200)
    return path


def link(path: Path) -> Path:
    target = path.parent / "away" / "target"
    target.parent.mkdir()
    path.symlink_to("away/target")
    return old(target)


def chain(path: Path) -> Path:
    (path.parent / "second").symlink_to(path.parent / "third")
    path.symlink_to("second")
    return old(path.parent / "third")


def link_to_nothing_yet(path: Path) -> Path:
    (path.parent / "away").mkdir()
    path.symlink_to("away/new")
    return path.parent / "away" / "new"


def odd_name(path: Path) -> Path:
    path.symlink_to("[1]*? é.txt")
    return path.parent / "[1]*? é.txt"


@pytest.mark.usefixtures("in_process")
@each_file
@pytest.mark.parametrize("place", [new, old, link, chain, link_to_nothing_yet, odd_name])
def test_a_link_stays_and_its_target_is_written_whole(
    job: str, flag: str, place: Callable[[Path], Path], tmp_path: Path, given: Path, expected: Callable[..., bytes]
) -> None:
    path = tmp_path / "to" / "file"
    path.parent.mkdir()
    target = place(path)
    was_link, content = path.is_symlink(), expected(job, flag)
    before = set(path.parent.rglob("*"))
    assert execute(arguments(job, flag, str(path), given, tmp_path)) == ExitCode.DONE
    assert path.is_symlink() == was_link
    assert target.read_bytes() == path.read_bytes() == content
    assert set(path.parent.rglob("*")) == before | {target}


@pytest.mark.usefixtures("in_process")
@each_file
def test_a_pipe_is_written_to_and_stays(
    job: str, flag: str, tmp_path: Path, given: Path, expected: Callable[..., bytes]
) -> None:
    content, got = expected(job, flag), list[bytes]()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    reader = threading.Timer(0.5, lambda: got.append((tmp_path / "pipe").read_bytes()))  # it may come second
    reader.start()
    assert execute(arguments(job, flag, str(tmp_path / "link"), given, tmp_path)) == ExitCode.DONE
    reader.join(10)
    assert got == [content]
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.usefixtures("in_process")
@each_file
def test_a_device_is_written_to_and_stays(job: str, flag: str, tmp_path: Path, given: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o600 | 0o020000, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError:
        pytest.skip("devices can be made by root alone")
    assert execute(arguments(job, flag, str(device), given, tmp_path)) == ExitCode.DONE
    assert device.is_char_device()


@pytest.mark.usefixtures("in_process")
@each_file
@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "LINK"])
def test_standard_output_holds_the_file_and_nothing_else(
    job: str, flag: str, name: str, tmp_path: Path, given: Path, expected: Callable[..., bytes],
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    content = expected(job, flag)
    (tmp_path / "link").symlink_to("/dev/stdout")
    capfdbinary.readouterr()
    path = str(tmp_path / "link") if name == "LINK" else name
    assert execute(arguments(job, flag, path, given, tmp_path)) == ExitCode.DONE
    told = capfdbinary.readouterr()
    assert told.out == content
    assert told.err or job in {"cache", "inspect", "models"}, "what is said otherwise is said there"


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output_that_is_a_file_is_written_on(
    name: str, tmp_path: Path, given: Path, expected: Callable[..., bytes]
) -> None:
    with (tmp_path / "out").open("wb") as out:
        out.write(b"before\n")
        out.flush()
        command = [sys.executable, "-m", "ray_rerank.jobs", *arguments("evaluate", "json", name, given, tmp_path)]
        done = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, check=False)
        out.write(b"after\n")
    assert done.returncode == ExitCode.DONE and b"RR@10" in done.stderr
    assert (tmp_path / "out").read_bytes() == b"before\n" + expected("evaluate", "json") + b"after\n"


def folder(path: Path) -> str:
    path.mkdir()
    return f"{path}: is a folder; --FLAG is a file"


def link_to_folder(path: Path) -> str:
    path.symlink_to(".")
    return f"{path}: is a folder; --FLAG is a file"


def no_parent(path: Path) -> str:
    path.parent.rmdir()
    return f"{path}: there is no folder {path.parent}; make it"


def parent_is_a_file(path: Path) -> str:
    path.parent.rmdir()
    path.parent.touch()
    return f"{path}: there is no folder {path.parent}; make it"


def link_into_nothing(path: Path) -> str:
    path.symlink_to("gone/file")
    return f"{path}: there is no folder {path.parent}/gone; make it"


def ring(path: Path) -> str:
    (path.parent / "other").symlink_to(path)
    path.symlink_to("other")
    return f"{path}: is a link to other, which leads back to it; --FLAG is a file"


def socket(path: Path) -> str:
    import socket as sockets

    at = os.getcwd()  # noqa: PTH109
    os.chdir(path.parent)  # the path of a socket is short
    sockets.socket(sockets.AF_UNIX).bind(path.name)
    os.chdir(at)
    return f"{path}: is neither a file nor a folder but a socket; --FLAG is a file"


def pipe(path: Path) -> str:
    os.mkfifo(path)
    return f"{path}: is a pipe that nobody reads; start its reader first, or name a file for --FLAG"


def full(path: Path) -> str:
    path.symlink_to("/dev/full")
    return f"{path}: is a device; --FLAG is a file"


@each_file
@pytest.mark.parametrize(
    "spoil", [folder, link_to_folder, no_parent, parent_is_a_file, link_into_nothing, ring, socket, pipe, full]
)
def test_what_cannot_be_a_file_is_refused_before_anything_is_read(
    job: str, flag: str, spoil: Callable[[Path], str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("ray_rerank.jobs.outputs.files._READER_S", 0.2)
    path = tmp_path / "to" / "file"
    path.parent.mkdir()
    told = spoil(path).replace("FLAG", flag)
    before = set(tmp_path.rglob("*"))
    assert execute(arguments(job, flag, str(path), tmp_path / "nowhere", tmp_path)) == ExitCode.REFUSED
    assert told in capsys.readouterr().err
    assert set(tmp_path.rglob("*")) == before


@each_file
def test_a_name_that_ends_as_a_folders_does_and_a_closed_descriptor_are_refused(
    job: str, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, told in ((f"{tmp_path}/new/", "is a folder"), ("/dev/fd/987", "is not open")):
        assert execute(arguments(job, flag, path, tmp_path / "nowhere", tmp_path)) == ExitCode.REFUSED
        assert f"{path}: {told}; --{flag} is a file" in capsys.readouterr().err


def test_a_file_may_lie_in_the_folder_that_the_job_makes(
    tmp_path: Path, given: Path, expected: Callable[..., bytes]
) -> None:
    path = tmp_path / "reranked" / "run.trec"
    with without_ray():
        assert execute(arguments("rerank", "trec-run", str(path), given, tmp_path)) == ExitCode.DONE
    assert path.read_bytes() == expected("rerank", "trec-run")


@pytest.mark.parametrize(
    ("job", "one", "path", "other", "same"),
    [
        ("evaluate", "--json", "a", "--per-query", "a"),
        ("evaluate", "--json", "a", "--per-query", "link"),
        ("evaluate", "--json", "-", "--per-query", "/dev/stdout"),
        ("evaluate", "--qrels", "a", "--json", "link"),
        ("evaluate", "--ranking", "./a", "--per-query", "a"),
        ("queries", "--passages", "a", "--output", "link"),
        ("queries", "--apart-from", "link", "--qrels", "a"),
        ("queries", "--output", "new", "--qrels", "./new"),
        ("rerank", "--input", "a", "--trec-run", "link"),
    ],
)
def test_a_file_is_not_written_over_another_of_the_job(
    job: str, one: str, path: str, other: str, same: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("kept")
    (tmp_path / "link").symlink_to("a")
    needed = {
        "evaluate": {"--ranking": "r", "--qrels": "q"},
        "queries": {"--passages": "p", "--output": "o"},
        "rerank": {"--input": "i", "--output": "o", "--model": "m"},
    }[job]
    flags = needed | {one: path, other: same}
    assert execute([job, *(word for flag in flags.items() for word in flag)]) == ExitCode.REFUSED
    told = capsys.readouterr().err
    assert one in told and other in told and "are one file; each needs a file of its own" in told
    assert (tmp_path / "a").read_text() == "kept"


def test_nothing_may_be_written_to_where_nothing_is_kept(tmp_path: Path, given: Path) -> None:
    flags = ["--json", os.devnull, "--per-query", os.devnull]
    assert execute([*arguments("evaluate", "seed", "0", given, tmp_path), *flags]) == ExitCode.DONE
