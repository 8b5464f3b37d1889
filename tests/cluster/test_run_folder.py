"""Only a marker makes a unit done; an output belongs to one identity and one input."""

from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from ray_rerank.cluster.errors import OutputMismatchError, StorageError
from ray_rerank.cluster.run_folder import (
    Marker,
    Output,
    claim,
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
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    return Output(str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}/out")


def test_committed_units_are_done_and_readers_see_only_results(output: Output) -> None:
    claim(output, {"k": 1}, UNITS)
    commit(output, UNITS[0], RESULTS, pa.table({"reason": ["bad"]}), {"pairs": 4})
    assert done_markers(output, Marker)["000000-aa"].faults == 1
    if "://" not in output.uri:
        assert pads.dataset(output.uri).to_table() == RESULTS


def test_a_commit_done_again_leaves_one_part(output: Output) -> None:
    for _ in range(2):
        commit(output, UNITS[0], RESULTS, NONE, {})
    assert list(done_markers(output, Marker)) == ["000000-aa"]


def test_a_part_without_its_marker_or_of_another_size_is_not_done(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    for unit in UNITS:
        commit(output, unit, RESULTS, NONE, {})
    Path(output.run("done", f"{UNITS[0].name}.json")).unlink()
    part = Path(output.part(UNITS[1]))
    part.write_bytes(part.read_bytes()[:-1])
    assert done_markers(output, Marker) == {}


def test_a_damaged_marker_counts_as_none(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    commit(output, UNITS[0], RESULTS, NONE, {})
    Path(output.run("done", f"{UNITS[0].name}.json")).write_text('{"unit": ')
    assert done_markers(output, Marker) == {}


def test_the_same_run_may_claim_again_and_another_is_told_what_differs(output: Output) -> None:
    identity = {"stages": [{"scorer": {"weights": "aaaa", "max_length": 512}}]}
    claim(output, identity, UNITS)
    claim(output, identity, UNITS)
    commit(output, UNITS[0], RESULTS, NONE, {})
    claim(output, identity, UNITS)
    other = {"stages": [{"scorer": {"weights": "bbbb", "max_length": 64}}]}
    with pytest.raises(OutputMismatchError) as error:
        claim(output, other, UNITS)
    assert 'stages[0].scorer.weights: was "aaaa", is now "bbbb"' in str(error.value)
    assert "stages[0].scorer.max_length: was 512, is now 64" in str(error.value)


@pytest.mark.parametrize("began", ["nothing", "done", "failed"])
def test_a_run_that_did_nothing_gives_way_to_another(output: Output, began: str) -> None:
    claim(output, {"k": 1}, UNITS)
    if began == "done":
        commit(output, UNITS[0], RESULTS, NONE, {})
    elif began == "failed":
        commit_failure(output, UNITS[0], "out of luck")
    if began == "nothing":
        claim(output, {"k": 2}, UNITS[:1])
    with pytest.raises(OutputMismatchError) if began != "nothing" else nullcontext():
        claim(output, {"k": 2}, UNITS[:1])


def test_another_input_is_refused_naming_the_files(output: Output) -> None:
    claim(output, {}, UNITS)
    commit(output, UNITS[0], RESULTS, NONE, {})
    with pytest.raises(OutputMismatchError, match=r"/in/b\.parquet was there and is gone"):
        claim(output, {}, UNITS[:1])
    with pytest.raises(OutputMismatchError, match=r"/in/b\.parquet has changed since"):
        claim(output, {}, [UNITS[0], Unit("000001-cc", "/in/b.parquet", 0, 2, 4)])


def test_a_folder_with_other_parquet_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_bytes(b"somebody's")
    with pytest.raises(OutputMismatchError, match=r"mine\.parquet"):
        claim(Output(str(tmp_path)), {}, UNITS)


def test_failed_units_are_on_the_books_with_their_reason(output: Output) -> None:
    commit_failure(output, UNITS[0], "the model said no")
    assert failures(output)["000000-aa"].reason == "the model said no"
    assert done_markers(output, Marker) == {}


def test_a_part_that_is_not_what_was_written_is_not_read(output: Output) -> None:
    claim(output, {}, UNITS)
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
