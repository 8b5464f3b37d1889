"""Listings follow links, end where links go round, and take names literally, or as globs where nothing is called so."""

import os
import random
import shutil
from pathlib import Path

import pytest

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.score_cache.cache_files import BadRunError, open_run
from ray_rerank.cluster.storage import find_files, list_files, names_below, read_folder, stored_file, write_whole

ODD = "a[1]*? b"


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def listed(uri: Path | str, root: Path) -> list[str]:
    return [os.path.relpath(file.path, root) for file in list_files(str(uri), (".parquet",))]


def found(pattern: str, root: Path) -> list[str]:
    return [os.path.relpath(file.path, root) for file in find_files(str(root / pattern))]


@pytest.mark.parametrize("seed", range(20))
def test_a_folder_of_links_is_listed_as_the_copy_that_has_none(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    names = [f"{draw.choice(['', 'x/', 'x/y/', '_z/', ODD + '/'])}{number}.parquet" for number in range(6)]
    away = tree(tmp_path / "away", *names)
    top = tree(tmp_path / "top", *draw.sample(names, 2))
    for number in range(4):
        target = draw.choice([away / name for name in names] + [folder for folder in away.iterdir() if folder.is_dir()])
        link = top / draw.choice(["", "x", "w"]) / f"{draw.choice(['', '_', '.'])}link-{number}{target.suffix}"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(draw.choice([target, os.path.relpath(target, link.parent)]))
    copy = Path(shutil.copytree(top, tmp_path / "copy"))
    files = list_files(str(top), (".parquet",))
    assert listed(top, top) == listed(copy, copy)
    assert [file.size for file in files] == [file.size for file in list_files(str(copy), (".parquet",))]
    assert names_below(str(top)) == sorted(str(p.relative_to(copy)) for p in copy.rglob("*") if p.is_file())
    assert files == [stored_file(file.path) for file in files], "a listing and a look at one file say the same"


def test_a_link_shows_the_time_of_what_it_leads_to(tmp_path: Path) -> None:
    tree(tmp_path, "a.parquet")
    (tmp_path / "b.parquet").symlink_to("a.parquet")
    os.utime(tmp_path / "a.parquet", (5, 5))
    assert [file.version for file in list_files(str(tmp_path), (".parquet",))] == ["5.0", "5.0"]


LOOPS = {
    "of its own folder": {"x/loop": "."},
    "of a folder above": {"x/y/loop": "../.."},
    "by way of another": {"x/one": "../w", "w/two": "../x"},
    "of what was asked for": {"loop": str},
}


@pytest.mark.parametrize("links", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("way", [list_files, find_files])
def test_a_folder_that_lies_in_itself_is_listed_once_and_the_link_is_told(tmp_path: Path, links: dict, way) -> None:  # type: ignore[no-untyped-def,type-arg]
    tree(tmp_path, "x/y/a.parquet", "w/b.parquet")
    for link, target in links.items():
        (tmp_path / link).symlink_to(target if isinstance(target, str) else tmp_path)
    files = way(str(tmp_path), ("",)) if way is list_files else way(str(tmp_path / "**"))
    faulty = [file for file in files if file.fault]
    assert 1 <= len(faulty) <= 2 and all("is a link to a folder that it lies in" in str(f.fault) for f in faulty)
    assert {os.path.basename(file.path) for file in faulty} <= {"loop", "one", "two"}  # noqa: PTH119
    assert {Path(file.path).name for file in files} >= {"a.parquet", "b.parquet"}
    assert len(names_below(str(tmp_path))) == len(list_files(str(tmp_path), ("",)))


@pytest.mark.parametrize(
    ("links", "fault"),
    [
        ({"a.parquet": "nothing"}, "is a link to nothing, which is not there"),
        ({"a.parquet": "b", "b": "a.parquet"}, "is a link to b, which leads back to it"),
        ({"a.parquet": "/dev/null"}, "is neither a file nor a folder but a device"),
        ({"a.parquet": None}, "is neither a file nor a folder but a pipe"),
    ],
)
def test_what_is_no_file_is_listed_with_the_reason(tmp_path: Path, links: dict[str, str | None], fault: str) -> None:
    for name, target in links.items():
        os.mkfifo(tmp_path / name) if target is None else (tmp_path / name).symlink_to(target)
    (file,) = list_files(str(tmp_path), (".parquet",))
    assert (file.fault, file.size) == (fault, 0)
    with pytest.raises(BadRunError, match=fault):
        open_run(file, "0" * 32)


def test_a_broken_link_that_is_asked_for_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone")
    for way in (lambda uri: list_files(uri, ("",)), find_files, stored_file):
        with pytest.raises(StorageError, match=r"/link: is a link to gone, which is not there"):
            way(str(tmp_path / "link"))


def test_a_file_that_is_named_is_taken_though_its_name_is_hidden(tmp_path: Path) -> None:
    tree(tmp_path, "_run/_part.parquet")
    assert len(list_files(str(tmp_path / "_run" / "_part.parquet"), (".parquet",))) == 1
    assert listed(tmp_path / "_run", tmp_path) == []


def test_a_glob_matches_files_and_opens_folders_and_links(tmp_path: Path) -> None:
    tree(tmp_path, "a-1/x.parquet", "a-1/deep/y.parquet", "b/z.parquet", "b/_z.parquet", "_b/z.parquet", "top.parquet")
    (tmp_path / "a-2").symlink_to("b")
    assert found("*.parquet", tmp_path) == ["top.parquet"]
    assert found("a-*", tmp_path) == ["a-1/deep/y.parquet", "a-1/x.parquet", "a-2/z.parquet"]
    assert found("*/z.parquet", tmp_path) == ["a-2/z.parquet", "b/z.parquet"]
    assert found("a-[12]/?.parquet", tmp_path) == ["a-1/x.parquet", "a-2/z.parquet"]
    assert found("**/*.parquet", tmp_path) == found("*", tmp_path) == found("**", tmp_path)
    assert len(found("**/*.parquet", tmp_path)) == 5
    assert found("a-*/**/y.parquet", tmp_path) == ["a-1/deep/y.parquet"]
    for pattern in ("c*", "a-1/x.parquet*/**"):
        with pytest.raises(StorageError, match="nothing that matches it"):
            found(pattern, tmp_path)
    with pytest.raises(StorageError, match="cannot be listed"):
        found("a**b", tmp_path)
    (tmp_path / "b" / "deep").symlink_to("gone")
    assert [file.fault for file in find_files(f"{tmp_path}/b/**/*.parquet")] == [
        "is a link to gone, which is not there",
        None,
    ]


def test_a_glob_in_a_store_matches_files_and_opens_folders() -> None:
    for name in ("a-1/x.parquet", "a-1/deep/y.parquet", "a-2/_z.parquet", "b/z.parquet"):
        write_whole(f"memory://globs/{name}", b"x")
    names = [file.path.removeprefix("memory:///globs/") for file in find_files("memory://globs/a-*")]
    assert names == ["a-1/deep/y.parquet", "a-1/x.parquet"]
    assert [file.path for file in find_files("memory://globs/*/z.parquet")] == ["memory:///globs/b/z.parquet"]


@pytest.mark.parametrize("root", ["LOCAL", "memory://odd"])
def test_names_are_literal_where_something_is_called_so(tmp_path: Path, root: str) -> None:
    top = root if "://" in root else str(tmp_path)
    for name in (f"{ODD}/{ODD}.parquet", "a1xx b/other.parquet", "a1xx b/a1xx b.parquet"):
        write_whole(f"{top}/{name}", b"x")
    for way in (lambda uri: list_files(uri, ("",)), find_files):
        for uri in (f"{top}/{ODD}", f"{top}/{ODD}/{ODD}.parquet"):
            assert [file.path.rpartition("/")[2] for file in way(uri)] == [f"{ODD}.parquet"]
    assert read_folder(f"{top}/{ODD}", ".parquet") == {ODD: b"x"}
    assert names_below(f"{top}/{ODD}") == [f"{ODD}.parquet"]
    with pytest.raises(StorageError, match="there is no such file or folder"):
        list_files(f"{top}/a1*", ("",))
    assert len(find_files(f"{top}/a1*")) == 2


def test_chained_uris_are_refused(tmp_path: Path) -> None:
    for uri in ("zip://a::s3://b/c", "simplecache::file:///tmp", "a::b/c", str(tmp_path / "a::b")):
        for way in (find_files, stored_file, names_below, lambda uri: write_whole(uri, b"")):
            with pytest.raises(StorageError, match="chain URIs"):
                way(uri)
    assert list(tmp_path.iterdir()) == []
