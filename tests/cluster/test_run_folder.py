"""Only a marker makes a unit done."""

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.run_folder import (
    Marker,
    RunFolder,
    begin,
    commit,
    commit_failure,
    done_markers,
    failures,
    read_part,
    read_parts,
)
from ray_rerank.cluster.storage import write_whole
from ray_rerank.cluster.units import Unit

UNITS = [Unit("000000-aa", "/in/a.parquet", 0, 2, 4), Unit("000001-bb", "/in/b.parquet", 0, 2, 4)]
RESULTS = pa.table({"query_id": ["q1", "q2"]})
NONE = pa.table({"reason": pa.array([], pa.string())})


@pytest.fixture(params=["local", "object store"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}/out")


def test_committed_units_are_done_and_readers_see_only_results(output: RunFolder) -> None:
    begin(output, {"k": 1}, UNITS)
    commit(output, UNITS[0], RESULTS, pa.table({"reason": ["bad"]}), {"pairs": 4})
    assert done_markers(output, Marker)["000000-aa"].faults == 1
    if "://" not in output.uri:
        assert pads.dataset(output.uri).to_table() == RESULTS


def test_a_commit_done_again_leaves_one_part(output: RunFolder) -> None:
    for _ in range(2):
        commit(output, UNITS[0], RESULTS, NONE, {})
    assert list(done_markers(output, Marker)) == ["000000-aa"]


def test_a_part_without_its_marker_or_of_another_size_is_not_done(tmp_path: Path) -> None:
    output = RunFolder(str(tmp_path))
    for unit in UNITS:
        commit(output, unit, RESULTS, NONE, {})
    Path(output.internal("done", f"{UNITS[0].name}.json")).unlink()
    part = Path(output.part(UNITS[1]))
    part.write_bytes(part.read_bytes()[:-1])
    assert done_markers(output, Marker) == {}


def test_a_damaged_marker_counts_as_none(tmp_path: Path) -> None:
    output = RunFolder(str(tmp_path))
    commit(output, UNITS[0], RESULTS, NONE, {})
    Path(output.internal("done", f"{UNITS[0].name}.json")).write_text('{"unit": ')
    assert done_markers(output, Marker) == {}


def test_failed_units_are_on_the_books_with_their_reason(output: RunFolder) -> None:
    commit_failure(output, UNITS[0], "the model said no")
    assert failures(output)["000000-aa"].reason == "the model said no"
    assert done_markers(output, Marker) == {}


def test_a_part_that_is_not_what_was_written_is_not_read(output: RunFolder) -> None:
    begin(output, {}, UNITS)
    for unit in UNITS:
        commit(output, unit, RESULTS, NONE, {})
    assert [unit for unit, _ in read_parts(output, Marker)] == UNITS
    marker = done_markers(output, Marker)[UNITS[1].name]
    spoilt = bytearray(read_part(output, UNITS[1], marker))
    spoilt[-20] ^= 1
    write_whole(output.part(UNITS[1]), bytes(spoilt))
    assert len(done_markers(output, Marker)) == 2
    with pytest.raises(
        StorageError, match=r"000001-bb\.parquet: its bytes are not those that were written .*remove it"
    ):
        list(read_parts(output, Marker))
