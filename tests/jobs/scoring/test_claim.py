"""An output belongs to one identity and one input."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_rerank.cluster.errors import OutputConflictError
from ray_rerank.cluster.run_folder import RunFolder, commit, commit_failure
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.scoring.claim import RunClaim, claim_run

UNITS = [Unit("000000-aa", "/in/a.parquet", 0, 2, 4), Unit("000001-bb", "/in/b.parquet", 0, 2, 4)]
RESULTS = pa.table({"query_id": ["q1", "q2"]})
NONE = pa.table({"reason": pa.array([], pa.string())})


@pytest.fixture(params=["local", "object store"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}/out")


def claim(output: RunFolder, identity: dict[str, Any], units: list[Unit]) -> bool:
    return claim_run(RunClaim("rerank", output, identity, units))


def test_the_same_run_may_claim_again_and_another_is_told_what_differs(output: RunFolder) -> None:
    identity = {"stages": [{"scorer": {"weights": "aaaa", "max_length": 512}}]}
    claim(output, identity, UNITS)
    claim(output, identity, UNITS)
    commit(output, UNITS[0], RESULTS, NONE, {})
    claim(output, identity, UNITS)
    other = {"stages": [{"scorer": {"weights": "bbbb", "max_length": 64}}]}
    with pytest.raises(OutputConflictError) as error:
        claim(output, other, UNITS)
    assert 'stages[0].scorer.weights: "aaaa" -> "bbbb"' in str(error.value)
    assert "stages[0].scorer.max_length: 512 -> 64" in str(error.value)


@pytest.mark.parametrize("began", ["nothing", "done", "failed"])
def test_a_run_that_did_nothing_gives_way_to_another(output: RunFolder, began: str) -> None:
    claim(output, {"k": 1}, UNITS)
    if began == "done":
        commit(output, UNITS[0], RESULTS, NONE, {})
    elif began == "failed":
        commit_failure(output, UNITS[0], "out of luck")
    if began == "nothing":
        claim(output, {"k": 2}, UNITS[:1])
    with pytest.raises(OutputConflictError) if began != "nothing" else nullcontext():
        claim(output, {"k": 2}, UNITS[:1])


def test_another_input_is_refused_naming_the_files(output: RunFolder) -> None:
    claim(output, {}, UNITS)
    commit(output, UNITS[0], RESULTS, NONE, {})
    with pytest.raises(OutputConflictError, match=r"input /in/b\.parquet: was read and is gone"):
        claim(output, {}, UNITS[:1])
    with pytest.raises(OutputConflictError, match=r"input /in/b\.parquet: has changed since"):
        claim(output, {}, [UNITS[0], Unit("000001-cc", "/in/b.parquet", 0, 2, 4)])


def test_a_folder_with_other_parquet_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_bytes(b"somebody's")
    with pytest.raises(OutputConflictError, match=r"mine\.parquet"):
        claim(RunFolder(str(tmp_path)), {}, UNITS)
