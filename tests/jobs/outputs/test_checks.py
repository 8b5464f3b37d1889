"""Folders that cannot be used together, or that a worker would not see, are refused before any work starts."""

from pathlib import Path

import pytest

from ray_rerank.cluster import storage
from ray_rerank.cluster.errors import StorageError
from ray_rerank.jobs.outputs.checks import check_apart, check_empty, check_output
from ray_rerank.operators.errors import InputError


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        ({"output": "a/b", "input": "a"}, "the output lies in the input a"),
        ({"output": "a", "cache": "a/b"}, "the cache lies in the output a"),
        ({"output": "a", "cache": "a/"}, "lies in the"),
        ({"output": "s3://b/x", "input": "s3://b/y", "cache": "s3://b/y/c"}, "the cache lies in the input s3://b/y"),
    ],
)
def test_a_folder_in_another_is_refused(folders: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        check_apart(**folders)


def test_a_folder_that_lies_in_another_by_way_of_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    for input_, output in (("data", "link/out"), ("link", "data/out"), ("link/../link", "data")):
        with pytest.raises(InputError, match="the output lies in the input"):
            check_apart(output=str(tmp_path / output), input=str(tmp_path / input_))


def test_a_link_that_leads_nowhere_is_no_folder_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("unmounted/disk")
    for check in (check_empty, check_output):
        with pytest.raises(
            InputError, match=r"out: is a link to unmounted/disk, which is not there; a folder is needed"
        ):
            check(str(tmp_path / "out"))


def test_folders_beside_each_other_are_fine() -> None:
    check_apart(output="a/out", input="a/out-of-it/*.parquet", cache=None)


def test_what_no_worker_would_see_is_refused(tmp_path: Path) -> None:
    for output, cache in (("memory://out", None), (str(tmp_path / "out"), "memory://cache")):
        with pytest.raises(InputError, match="no other process"):
            check_output(output, cache)
    with pytest.raises(InputError, match="no other process"):
        check_empty("memory://export")


def test_a_cache_that_can_only_be_read_is_read_and_one_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = storage.write_whole

    def refuse(uri: str, data: bytes) -> None:
        if "/out/" not in uri:
            raise StorageError(f"{uri}: cannot be written: access denied")
        write(uri, data)

    monkeypatch.setattr("ray_rerank.cluster.storage.files.write_whole", refuse)
    with pytest.raises(StorageError, match="the cache cannot be written: access denied"):
        check_output(str(tmp_path / "out"), str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    check_output(str(tmp_path / "out"), str(tmp_path / "cache"))
    assert "the cache cannot be written: access denied; scores are taken from it" in capsys.readouterr().out


def test_a_folder_that_holds_files_is_not_empty(tmp_path: Path) -> None:
    check_empty(str(tmp_path / "new"))
    (tmp_path / "made").mkdir()
    check_empty(str(tmp_path / "made"))
    (tmp_path / "made" / "file").touch()
    for path in (tmp_path / "made", tmp_path / "made" / "file"):
        with pytest.raises(InputError):
            check_empty(str(path))
