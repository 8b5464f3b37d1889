"""A file is whole or absent; listings hide what is not data; what cannot be reached is said plainly."""

import os
from pathlib import Path

import pytest

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.storage import (
    StoredFile,
    check_unchanged,
    check_writable,
    find_files,
    list_files,
    open_read,
    read_bytes,
    stored_file,
    unchanged,
    write_whole,
    writing_whole,
)


def test_a_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "below" / "file.bin"
    write_whole(str(target), b"first and longer")
    write_whole(str(target), b"second")
    assert target.read_bytes() == b"second"
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_a_write_to_an_object_store_is_one_put(tmp_path: Path) -> None:
    write_whole("memory://bucket/a/file.bin", b"content")
    assert read_bytes("memory://bucket/a/file.bin") == b"content"
    assert [file.path for file in list_files("memory://bucket/a", (".bin",))] == ["memory:///bucket/a/file.bin"]
    assert open_read("memory://bucket/a/file.bin").read() == b"content"


@pytest.mark.parametrize("root", ["memory://bucket/streamed", "LOCAL"])
def test_a_streamed_write_is_whole_or_absent(tmp_path: Path, root: str) -> None:
    target = (root if "://" in root else str(tmp_path)) + "/run.trec"

    def write(fails: bool) -> None:
        with writing_whole(target) as file:
            file.write(b"half")
            if fails:
                raise KeyboardInterrupt
            file.write(b" and half")

    with pytest.raises(KeyboardInterrupt):
        write(fails=True)
    assert read_bytes(target) is None
    write(fails=False)
    assert read_bytes(target) == b"half and half"
    assert not [path for path in tmp_path.iterdir() if path.name != "run.trec"]


def test_listings_are_sorted_and_leave_out_hidden_names_and_folders(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", "_errors/x.parquet", ".tmp.parquet", "deep/c.parquet", "notes.txt"):
        write_whole(str(tmp_path / name), b"x")
    found = [Path(file.path).relative_to(tmp_path).as_posix() for file in list_files(str(tmp_path), (".parquet",))]
    assert found == ["a.parquet", "b.parquet", "deep/c.parquet"]
    one = list_files(str(tmp_path / "a.parquet"), (".parquet",))
    assert [(Path(file.path).name, file.size) for file in one] == [("a.parquet", 1)]
    assert len(find_files(str(tmp_path / "*.parquet"))) == 2


def test_what_is_not_there_or_not_reachable_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file or folder"):
        list_files(str(tmp_path / "nothing"), (".parquet",))
    with pytest.raises(StorageError, match="nosuch"):
        list_files("nosuch://bucket", (".parquet",))
    with pytest.raises(StorageError, match="cannot be read"):
        open_read(str(tmp_path / "nothing"))
    assert read_bytes(str(tmp_path / "nothing")) is None


def test_an_unwritable_output_is_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        check_writable(str(tmp_path / "file" / "output"))
    check_writable(str(tmp_path / "fine"))
    assert list((tmp_path / "fine").iterdir()) == []


def touched(path: Path, content: bytes) -> None:
    """Another file in place of this one, a second later."""
    before = path.stat().st_mtime_ns
    write_whole(str(path), content)
    os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.mark.parametrize(
    ("content", "told"), [(b"other", "modification time was 20"), (b"longer", "size was 5 bytes, is now 6")]
)
@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_that_is_replaced_is_told_with_what_differs(
    tmp_path: Path, content: bytes, told: str, kind: str
) -> None:
    path = given = tmp_path / "a.bin"
    write_whole(str(path), b"first")
    if kind == "link":
        given = tmp_path / "link.bin"
        given.symlink_to(path)
    listed = stored_file(str(given))
    check_unchanged(listed)
    with pytest.raises(StorageError, match=f"{given.name}: has changed .*{told}"), unchanged(listed):
        touched(path, content)
    with pytest.raises(StorageError, match=f"{given.name}: has changed .*{told}"):
        check_unchanged(listed)
    path.unlink()
    with pytest.raises(StorageError, match=f"{given.name}: "):
        check_unchanged(listed)


def test_a_listing_and_a_look_at_one_file_say_the_same(tmp_path: Path) -> None:
    write_whole(str(tmp_path / "a.bin"), b"first")
    write_whole("memory://looked/a.bin", b"first")
    for uri in (str(tmp_path), "memory://looked"):
        (listed,) = list_files(uri, (".bin",))
        assert listed.version
        check_unchanged(listed)


def test_an_object_that_is_put_again_is_another(tmp_path: Path) -> None:
    write_whole("memory://looked/b.bin", b"first")
    listed = stored_file("memory://looked/b.bin")
    write_whole("memory://looked/b.bin", b"other")
    with pytest.raises(StorageError, match=r"b\.bin: has changed .*modification time was"):
        check_unchanged(listed)


def test_what_reading_a_changed_file_raises_is_told_as_the_change(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_whole(str(path), b"first")
    with pytest.raises(StorageError, match="has changed"), unchanged(stored_file(str(path))):
        touched(path, b"other")
        raise StorageError("not a whole Parquet file")
    with pytest.raises(StorageError, match="not a whole"), unchanged(stored_file(str(path))):
        raise StorageError("not a whole Parquet file")


def test_what_a_listing_does_not_say_is_not_compared(tmp_path: Path) -> None:
    write_whole(str(tmp_path / "a.bin"), b"first")
    check_unchanged(StoredFile(str(tmp_path / "a.bin"), 0, ""))
