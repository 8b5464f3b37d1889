"""Units cover every row once, never part a query, and are the same each time they are cut."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.parquet import ParquetShard, read_footers
from ray_rerank.cluster.storage import list_files
from ray_rerank.cluster.units import Unit, load_plan, plan_by_group, plan_by_rows, read_rows, save_plan
from ray_rerank.operators.candidates.schema import query_starts
from support.candidates import rows, write_candidates


def shards(folder: Path) -> list[ParquetShard]:
    found, bad = read_footers(list_files(str(folder), (".parquet",)))
    assert not bad
    return found


def check_cover(units: list[Unit], folder: Path) -> None:
    """Each row of each file is in one unit, in order."""
    by_file: dict[str, int] = {}
    for unit in units:
        assert unit.start == by_file.get(unit.file, 0) and unit.stop > unit.start
        by_file[unit.file] = unit.stop
    assert by_file == {s.stored.path: s.metadata.num_rows for s in shards(folder) if s.metadata.num_rows}
    assert len({unit.name for unit in units}) == len(units)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=3),
    target=st.integers(1, 60),
)
def test_units_of_nested_rows_cover_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int, int]], target: int
) -> None:
    folder = tmp_path_factory.mktemp("nested")
    for number, (queries, depth, group) in enumerate(sizes):
        write_candidates(folder / f"{number}.parquet", rows(queries, depth, number), group)
    units = plan_by_rows(shards(folder), "candidates", target)
    check_cover(units, folder)
    assert units == plan_by_rows(shards(folder), "candidates", target)
    for unit in units:
        table = read_rows(unit, ["query_id", "candidates"])
        expected = pq.read_table(unit.file, columns=["query_id", "candidates"]).slice(
            unit.start, unit.stop - unit.start
        )
        assert table.to_pylist() == expected.to_pylist()
        depth = pc.max(pc.list_value_length(expected["candidates"])).as_py()
        assert table.num_rows == 1 or unit.items <= max(2 * target, target + depth)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(st.integers(1, 6), min_size=1, max_size=12), target=st.integers(1, 20), group=st.integers(1, 7))
def test_units_of_flat_rows_never_part_a_query(
    tmp_path_factory: pytest.TempPathFactory, runs: list[int], target: int, group: int
) -> None:
    folder = tmp_path_factory.mktemp("flat")
    ids = [f"q{number}" for number, length in enumerate(runs) for _ in range(length)]
    pq.write_table(pa.table({"query_id": ids}), folder / "flat.parquet", row_group_size=group)
    units = plan_by_group(shards(folder), "query_id", query_starts, target)
    check_cover(units, folder)
    owners = [set(ids[unit.start : unit.stop]) for unit in units]
    assert sum(len(owner) for owner in owners) == len(runs)


def test_flat_rows_that_are_not_contiguous_are_refused_with_file_row_and_query(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query_id": ["a", "b", "a"]}), tmp_path / "flat.parquet")
    with pytest.raises(StorageError, match=r"flat\.parquet: row 2: query_id 'a' stood in .*flat\.parquet at row 0"):
        plan_by_group(shards(tmp_path), "query_id", query_starts, 10)


@pytest.mark.parametrize("between", [[], ["x"]], ids=["next", "later"])
@pytest.mark.parametrize("shared", [b"b", b"\xff"])
def test_a_query_that_goes_on_in_another_file_is_refused(tmp_path: Path, between: list[bytes], shared: bytes) -> None:
    for number, ids in enumerate([[b"a", shared], between, [shared, b"c"]]):
        raw = pa.array(ids, pa.binary())
        strings = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
        pq.write_table(pa.table({"query_id": strings}), tmp_path / f"{number}.parquet")
    with pytest.raises(StorageError, match=r"2\.parquet: row 0: query_id '.' stood in .*0\.parquet at row 1"):
        plan_by_group(shards(tmp_path), "query_id", query_starts, 10)


def test_a_changed_file_has_other_units(tmp_path: Path) -> None:
    path = write_candidates(tmp_path / "a.parquet", rows(4, 3))
    before = plan_by_rows(shards(tmp_path), "candidates", 6)
    write_candidates(path, rows(4, 3, seed=1))
    after = plan_by_rows(shards(tmp_path), "candidates", 6)
    assert not {unit.name for unit in before} & {unit.name for unit in after}


def test_rows_of_a_file_that_was_replaced_since_the_plan_are_not_read(tmp_path: Path) -> None:
    path = write_candidates(tmp_path / "a.parquet", rows(4, 3))
    (unit,) = plan_by_rows(shards(tmp_path), "candidates", 100)
    assert read_rows(unit, ["query_id"]).num_rows == 4
    size = path.stat().st_size
    write_candidates(path, rows(4, 3, seed=1))
    with path.open("ab") as file:  # as many rows, as many bytes: only its time tells
        file.truncate(size)
    with pytest.raises(StorageError, match=r"a\.parquet: has changed since"):
        read_rows(unit, ["query_id"])
    path.unlink()
    with pytest.raises(StorageError, match="no such file"):
        read_rows(unit, ["query_id"])


def test_a_column_of_a_file_that_was_replaced_since_its_footer_was_read_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "flat.parquet"
    pq.write_table(pa.table({"query_id": ["a", "b"]}), path)
    planned = shards(tmp_path)
    pq.write_table(pa.table({"query_id": ["a", "c"]}), path)
    with pytest.raises(StorageError, match=r"flat\.parquet: has changed since"):
        plan_by_group(planned, "query_id", query_starts, 1)


def test_truncated_and_foreign_files_are_told_apart_from_whole_ones(tmp_path: Path) -> None:
    whole = write_candidates(tmp_path / "whole.parquet", rows(3, 3))
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:-50])
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "text.parquet").write_text("not parquet at all")
    found, bad = read_footers(list_files(str(tmp_path), (".parquet",)))
    assert [Path(shard.stored.path).name for shard in found] == ["whole.parquet"]
    assert sorted(Path(reason.split(":")[0]).name for reason in bad) == ["cut.parquet", "empty.parquet", "text.parquet"]


def test_a_plan_is_read_back_as_it_was(tmp_path: Path) -> None:
    units = [Unit("000000-abc", "s3://b/k.parquet", 0, 10, 100, 5000, "etag")]
    path = tmp_path / "plan.parquet"
    save_plan(str(path), units)
    assert list(map(asdict, load_plan(str(path)))) == list(map(asdict, units))
    pq.write_table(pq.read_table(path).drop_columns(["size", "version"]), path)  # as older versions wrote it
    assert load_plan(str(path)) == units


def test_a_damaged_plan_is_said(tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    save_plan(str(path), [Unit("000000-abc", "s3://b/k.parquet", 0, 10, 100)])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StorageError, match=r"plan\.parquet: is damaged: .*; use another output"):
        load_plan(str(path))


@pytest.mark.parametrize("kind", ["string_view", "dictionary", "int64", "broken"])
def test_flat_ids_of_any_kind_are_told_apart(tmp_path: Path, kind: str) -> None:
    plain = pa.array(["a", "a", "b", "c"])
    raw = pa.array([b"a", b"a", b"\xfe", b"\xff"])
    ids = {
        "string_view": plain.cast(pa.string_view()),
        "dictionary": plain.dictionary_encode(),
        "int64": pa.array([1, 1, 2, 3]),
        "broken": pa.Array.from_buffers(pa.string(), 4, raw.buffers()),
    }[kind]
    pq.write_table(pa.table({"query_id": ids}), tmp_path / "flat.parquet")
    units = plan_by_group(shards(tmp_path), "query_id", query_starts, 1)
    assert [(unit.start, unit.stop) for unit in units] == [(0, 2), (2, 3), (3, 4)]
