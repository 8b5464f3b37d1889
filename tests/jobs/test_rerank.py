"""`ray-rerank rerank` end to end, through Ray Data, on a small random model."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import yaml

from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.formats.trec_runs import read_run
from ray_rerank.operators.rejects import RaiseOnReject, Reason
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from support.candidates import rows, write_candidates
from support.command import execute
from support.marks import here, on_ray
from support.models import write_cross_encoder


def job(tmp_path: Path, model: Path, **fields: Any) -> Path:
    """A job file with one fp32 stage."""
    stages = [{"scorer": {"kind": "cross-encoder", "model": str(model), "precision": "fp32"}, "keep": 5, "actors": 1}]
    content = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "stages": stages} | fields
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def ranking(output: Path) -> dict[str, list[dict[str, Any]]]:
    table = pads.dataset(str(output)).to_table().to_pylist()
    assert len({row["query_id"] for row in table}) == len(table), "a query stands twice in the output"
    return {row["query_id"]: row["ranking"] for row in table}


@pytest.fixture
def three_shards(tmp_path: Path) -> list[dict[str, Any]]:
    content = rows(18, 9)
    for number in range(3):
        write_candidates(tmp_path / "in" / f"{number}.parquet", content[number * 6 : number * 6 + 6])
    return content


@on_ray
def test_every_candidate_is_ranked_by_its_score_alone_whatever_the_unit(
    tmp_path: Path, cross_encoder: Path, three_shards: list[dict[str, Any]]
) -> None:
    assert execute(["rerank", str(job(tmp_path, cross_encoder)), "--unit-pairs", "20"]) == ExitCode.DONE
    found = ranking(tmp_path / "out")
    scorer = CrossEncoderConfig(model=str(cross_encoder), precision="fp32").load()
    assert set(found) == {row["query_id"] for row in three_shards}
    for row in three_shards:
        expected = {c["doc_id"]: scorer.score([(row["query"], c["text"])])[0] for c in row["candidates"]}
        mine = found[row["query_id"]]
        assert [c["rank"] for c in mine] == list(range(1, 10))
        assert {c["doc_id"] for c in mine} == set(expected)
        scores = [c["score"] for c in mine]
        assert scores == sorted(scores, reverse=True)
        np.testing.assert_allclose(scores, [expected[c["doc_id"]] for c in mine], atol=1e-5)
        first = {c["doc_id"]: (place, c["score"]) for place, c in enumerate(row["candidates"], start=1)}
        assert {c["doc_id"]: (c["first_stage_rank"], c["first_stage_score"]) for c in mine} == first
        assert {c["stage"] for c in mine} == {1}


@here
def test_the_written_schema_is_the_documented_one(tmp_path: Path, cross_encoder: Path) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(2, 3))
    assert execute(["rerank", str(job(tmp_path, cross_encoder)), "--include-text"]) == ExitCode.DONE
    part = next((tmp_path / "out").glob("part-*.parquet"))
    candidate = [
        ("doc_id", pa.string()),
        ("rank", pa.int32()),
        ("score", pa.float32()),
        ("first_stage_rank", pa.int32()),
        ("first_stage_score", pa.float32()),
        ("stage", pa.int32()),
        ("text", pa.string()),
    ]
    assert pq.read_schema(part).equals(
        pa.schema([("query_id", pa.string()), ("query", pa.string()), ("ranking", pa.list_(pa.struct(candidate)))])
    )


@on_ray
def test_a_cascade_keeps_what_fell_out_below_with_the_score_that_dropped_it(
    tmp_path: Path, cross_encoder: Path
) -> None:
    content = rows(5, 9)
    write_candidates(tmp_path / "in" / "a.parquet", content)
    second = write_cross_encoder(tmp_path / "second", seed=3)
    stages = [
        {"scorer": {"model": str(cross_encoder), "precision": "fp32"}, "keep": 4},
        {"scorer": {"model": str(second), "precision": "fp32"}, "keep": 2},
    ]
    assert execute(["rerank", str(job(tmp_path, cross_encoder, stages=stages))]) == ExitCode.DONE
    first_scorer = CrossEncoderConfig(model=str(cross_encoder), precision="fp32").load()
    second_scorer = CrossEncoderConfig(model=str(second), precision="fp32").load()
    for row in content:
        mine = ranking(tmp_path / "out")[row["query_id"]]
        assert [c["stage"] for c in mine] == [2] * 4 + [1] * 5
        text = {c["doc_id"]: c["text"] for c in row["candidates"]}
        all_first = sorted((first_scorer.score([(row["query"], t)])[0] for t in text.values()), reverse=True)
        np.testing.assert_allclose([c["score"] for c in mine[4:]], all_first[4:], atol=1e-5)
        head = [second_scorer.score([(row["query"], text[c["doc_id"]])])[0] for c in mine[:4]]
        np.testing.assert_allclose([c["score"] for c in mine[:4]], head, atol=1e-5)
        assert head == sorted(head, reverse=True)


@here
def test_flat_rows_with_other_names_and_extra_columns(tmp_path: Path, cross_encoder: Path) -> None:
    content = rows(7, 4)
    flat = [
        {"qid": n, "query": row["query"], "pid": c["doc_id"], "passage": c["text"], "lang": "en"}
        for n, row in enumerate(content)
        for c in row["candidates"]
    ]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.Table.from_pylist(flat), tmp_path / "in" / "flat.parquet", row_group_size=5)
    columns = {"query_id": "qid", "doc_id": "pid", "text": "passage"}
    fields = {"columns": columns, "pass_through": ["lang"], "unit_pairs": 6}
    assert execute(["rerank", str(job(tmp_path, cross_encoder, **fields))]) == ExitCode.DONE
    table = pads.dataset(str(tmp_path / "out")).to_table()
    assert sorted(table["query_id"].to_pylist()) == [str(n) for n in range(7)]
    assert table["lang"].to_pylist() == ["en"] * 7
    assert all(c["first_stage_score"] is None for row in table["ranking"].to_pylist() for c in row)


@here
def test_bad_rows_cost_themselves_and_are_told(
    tmp_path: Path, cross_encoder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = rows(6, 3)
    content[1]["query"] = None
    content[2]["candidates"] = []
    content[3]["candidates"][1]["text"] = None
    content[4]["candidates"][2]["doc_id"] = content[4]["candidates"][0]["doc_id"]
    content[5]["candidates"][0]["text"] = "cactus " * 150_000
    write_candidates(tmp_path / "in" / "a.parquet", content)
    assert execute(["rerank", str(job(tmp_path, cross_encoder))]) == ExitCode.DONE_WITH_ERRORS
    assert {query: len(ranked) for query, ranked in ranking(tmp_path / "out").items()} == {
        "q0": 3, "q3": 2, "q4": 2, "q5": 3,
    }  # fmt: skip
    errors = pads.dataset(sorted(map(str, (tmp_path / "out" / "_errors").glob("*.parquet")))).to_table().to_pylist()
    assert {(fault["row"], fault["query_id"], fault["doc_id"], fault["candidates"]) for fault in errors} == {
        (1, "q1", None, 3), (2, "q2", None, 0), (3, "q3", "d3-1", 1), (4, "q4", "d4-0", 1),
    }  # fmt: skip
    assert {Path(fault["file"]).name for fault in errors} == {"a.parquet"}
    assert "1 x the query is empty" in capfd.readouterr().out
    assert execute(["inspect", str(tmp_path / "out"), "--json"]) == ExitCode.DONE_WITH_ERRORS
    state = json.loads(capfd.readouterr().out)
    assert (state["units"], state["left"], state["faults"], state["queries"]) == (1, 0, 4, 4)
    assert state["pairs"] == 15 and state["ranked"] == 10


@here
def test_a_query_that_stands_twice_is_ranked_once(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = rows(5, 3)
    write_candidates(tmp_path / "in" / "a.parquet", content[:3])
    write_candidates(tmp_path / "in" / "b.parquet", [content[3], content[1] | {"query": "another"}, content[4]])
    assert execute(["rerank", str(job(tmp_path, cross_encoder))]) == ExitCode.DONE_WITH_ERRORS
    assert "1 x the query_id stood in a row before" in capsys.readouterr().out
    assert {query: len(ranked) for query, ranked in ranking(tmp_path / "out").items()} == {f"q{n}": 3 for n in range(5)}
    errors = sorted(map(str, (tmp_path / "out" / "_errors").glob("*.parquet")))
    (fault,) = pads.dataset(errors).to_table().to_pylist()
    assert (Path(fault["file"]).name, fault["row"], fault["query_id"], fault["candidates"]) == ("b.parquet", 1, "q1", 3)


@here
def test_the_same_command_again_scores_nothing_and_changes_nothing(
    tmp_path: Path, cross_encoder: Path, three_shards: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    path = str(job(tmp_path, cross_encoder))
    assert execute(["rerank", path, "--unit-pairs", "20"]) == ExitCode.DONE
    before = {part.name: (part.read_bytes(), part.stat().st_mtime_ns) for part in (tmp_path / "out").glob("*.parquet")}
    capfd.readouterr()
    assert execute(["rerank", path, "--unit-pairs", "20"]) == ExitCode.DONE
    after = {part.name: (part.read_bytes(), part.stat().st_mtime_ns) for part in (tmp_path / "out").glob("*.parquet")}
    assert before == after
    assert f"{len(before)} of {len(before)} units done ({len(before)} of them before)" in capfd.readouterr().out


@here
def test_only_units_without_a_marker_are_done_again_and_come_out_the_same(
    tmp_path: Path, cross_encoder: Path, three_shards: list[dict[str, Any]]
) -> None:
    path = str(job(tmp_path, cross_encoder))
    assert execute(["rerank", path, "--unit-pairs", "20"]) == ExitCode.DONE
    whole = ranking(tmp_path / "out")
    markers = sorted((tmp_path / "out" / "_run" / "done").glob("*.json"))
    kept = {marker: marker.stat().st_mtime_ns for marker in markers[1:-1]}
    markers[0].unlink()
    markers[-1].unlink()
    (tmp_path / "out" / f"part-{markers[0].stem}.parquet").unlink()
    assert execute(["rerank", path, "--unit-pairs", "20"]) == ExitCode.DONE
    assert ranking(tmp_path / "out") == whole
    assert {marker: marker.stat().st_mtime_ns for marker in kept} == kept


@here
def test_a_run_that_an_older_version_planned_goes_on_unless_its_input_has_changed(
    tmp_path: Path, cross_encoder: Path, three_shards: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["rerank", str(job(tmp_path, cross_encoder)), "--unit-pairs", "20"]
    assert execute(command) == ExitCode.DONE
    whole = ranking(tmp_path / "out")
    plan = tmp_path / "out" / "_run" / "plan.parquet"
    pq.write_table(pq.read_table(plan).drop_columns(["size", "version"]), plan)
    min((tmp_path / "out" / "_run" / "done").glob("*.json")).unlink()
    assert execute(command) == ExitCode.DONE
    assert ranking(tmp_path / "out") == whole
    min((tmp_path / "out" / "_run" / "done").glob("*.json")).unlink()
    write_candidates(tmp_path / "in" / "0.parquet", rows(6, 9, seed=3))
    assert execute(command) == ExitCode.REFUSED
    assert "0.parquet: has changed since" in capfd.readouterr().err
    assert ranking(tmp_path / "out") == whole


@here
def test_another_model_or_config_on_the_same_output_is_refused_naming_it(
    tmp_path: Path, cross_encoder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(2, 3))
    assert execute(["rerank", str(job(tmp_path, cross_encoder))]) == ExitCode.DONE
    before = ranking(tmp_path / "out")
    other = write_cross_encoder(tmp_path / "other", seed=9)
    assert execute(["rerank", str(job(tmp_path, other))]) == ExitCode.REFUSED
    assert "stages[0].scorer.weights" in capfd.readouterr().err
    assert execute(["rerank", str(job(tmp_path, cross_encoder)), "--include-text"]) == ExitCode.REFUSED
    assert "include_text: false -> true" in capfd.readouterr().err
    write_candidates(tmp_path / "in" / "b.parquet", rows(1, 1))
    assert execute(["rerank", str(job(tmp_path, cross_encoder))]) == ExitCode.REFUSED
    assert "b.parquet: is new" in capfd.readouterr().err
    assert ranking(tmp_path / "out") == before


@here
def test_a_moved_model_is_the_same_model(tmp_path: Path, cross_encoder: Path) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(2, 3))
    assert execute(["rerank", str(job(tmp_path, cross_encoder))]) == ExitCode.DONE
    moved = Path(shutil.copytree(cross_encoder, tmp_path / "moved"))
    assert execute(["rerank", str(job(tmp_path, moved))]) == ExitCode.DONE


@here
def test_a_dry_run_shows_the_plan_and_writes_nothing(
    tmp_path: Path, cross_encoder: Path, three_shards: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(["rerank", str(job(tmp_path, cross_encoder)), "--unit-pairs", "20", "--dry-run"]) == ExitCode.DONE
    told = capfd.readouterr().out
    assert "3 shards, 18 queries, 162 pairs" in told
    assert not (tmp_path / "out").exists()


def spoil(tmp_path: Path, what: str, model: Path) -> list[str]:
    """Arguments of a job that has one thing wrong."""
    good = write_candidates(tmp_path / "in" / "good.parquet", rows(2, 2))
    arguments = {"--input": str(good.parent), "--output": str(tmp_path / "out"), "--model": str(model)}
    if what == "truncated":
        (good.parent / "cut.parquet").write_bytes(good.read_bytes()[:-30])
    elif what == "column":
        pq.write_table(pa.table({"query_id": ["a"], "text": ["b"]}), good.parent / "odd.parquet")
    elif what == "type":
        table = pq.read_table(good).set_column(1, "query", pa.array([1, 2]))
        pq.write_table(table, good)
    elif what == "no files":
        good.unlink()
    elif what == "no input":
        arguments["--input"] = str(tmp_path / "nowhere")
    elif what == "unwritable":
        (tmp_path / "file").write_text("")
        arguments["--output"] = str(tmp_path / "file" / "out")
    elif what == "inside":
        arguments["--output"] = str(good.parent / "out")
    elif what == "model":
        (tmp_path / "empty").mkdir()
        arguments["--model"] = str(tmp_path / "empty")
    elif what == "flag":
        arguments["--no-such-flag"] = "1"
    elif what == "gpu":
        arguments.pop("--model")
        arguments["--stages"] = json.dumps([{"scorer": {"model": str(model)}, "gpus": 4}])
    return [part for pair in arguments.items() for part in pair]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("truncated", "cut.parquet: not a whole Parquet file"),
        ("column", "odd.parquet: there is no column 'query'"),
        ("type", "good.parquet: column 'query' is int64"),
        ("no files", "holds no *.parquet file"),
        ("no input", "there is no such file or folder"),
        ("unwritable", "the output cannot be written"),
        ("inside", "the output lies in the input"),
        ("model", "it holds no config.json"),
        ("flag", "no-such-flag"),
        ("gpu", "asks for 4 GPU"),
    ],
)
@on_ray
def test_what_is_wrong_before_the_start_is_refused_and_told(
    tmp_path: Path, cross_encoder: Path, capfd: pytest.CaptureFixture[str], what: str, told: str
) -> None:
    assert execute(["rerank", *spoil(tmp_path, what, cross_encoder)]) == ExitCode.REFUSED
    error = capfd.readouterr().err
    assert told in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("out/part-*"))


@here
def test_bad_files_can_be_left_out_and_are_told(
    tmp_path: Path, cross_encoder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = spoil(tmp_path, "truncated", cross_encoder)
    assert execute(["rerank", *arguments, "--skip-bad-files"]) == ExitCode.DONE_WITH_ERRORS
    assert len(ranking(tmp_path / "out")) == 2
    assert "cut.parquet" in capfd.readouterr().out


@here
def test_a_file_of_flat_rows_whose_query_ids_are_damaged_can_be_left_out(
    tmp_path: Path, cross_encoder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("good", "torn"):
        pairs = {"query_id": [name, name], "query": ["a b", "a b"], "doc_id": ["1", "2"], "text": ["a", "b"]}
        pq.write_table(pa.table(pairs), tmp_path / "in" / f"{name}.parquet")
    torn = tmp_path / "in" / "torn.parquet"
    torn.write_bytes(b"PAR1" + b"\xff" * 30 + torn.read_bytes()[34:])
    path = str(job(tmp_path, cross_encoder))
    assert execute(["rerank", path]) == ExitCode.REFUSED
    assert "torn.parquet: column 'query_id' cannot be read" in capfd.readouterr().err
    assert execute(["rerank", path, "--skip-bad-files"]) == ExitCode.DONE_WITH_ERRORS
    assert list(ranking(tmp_path / "out")) == ["good"]
    assert "torn.parquet" in capfd.readouterr().out


@here
def test_a_unit_with_damaged_pages_fails_alone_and_the_next_run_tries_it_again(
    tmp_path: Path, cross_encoder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_candidates(tmp_path / "in" / "good.parquet", rows(2, 2))
    damaged = write_candidates(tmp_path / "in" / "torn.parquet", rows(2, 2, seed=1))
    content = bytearray(damaged.read_bytes())
    content[4:200] = b"\xff" * 196
    damaged.write_bytes(content)
    path = str(job(tmp_path, cross_encoder))
    assert execute(["rerank", path]) == ExitCode.DONE_WITH_ERRORS
    told = capfd.readouterr().out
    assert "1 of 2 units done, 1 left" in told
    assert "torn.parquet rows 0 to 2" in told
    assert len(ranking(tmp_path / "out")) == 2
    assert execute(["inspect", str(tmp_path / "out")]) == ExitCode.DONE_WITH_ERRORS
    assert execute(["rerank", path]) == ExitCode.DONE_WITH_ERRORS


@here
def test_a_trec_run_holds_the_ranking_in_an_order_that_trec_eval_keeps(tmp_path: Path, cross_encoder: Path) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(3, 4))
    run_file = tmp_path / "run.trec"
    assert execute(["rerank", str(job(tmp_path, cross_encoder)), "--trec-run", str(run_file)]) == ExitCode.DONE
    lines = [line.split() for line in run_file.read_text().splitlines()]
    found: dict[str, list[str]] = {}
    for query_id, _, doc_id, _, _, _ in sorted(lines, key=lambda line: (line[0], -float(line[4]))):
        found.setdefault(query_id, []).append(doc_id)
    assert found == {query: [c["doc_id"] for c in ranked] for query, ranked in ranking(tmp_path / "out").items()}


@here
def test_ids_that_a_trec_run_cannot_hold_are_left_out_of_it_and_told(
    tmp_path: Path, cross_encoder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = rows(3, 3)
    content[0]["candidates"][1]["doc_id"] = "d\nq9 Q0 forged 1 9 t"
    content[1]["query_id"] = "a query"
    write_candidates(tmp_path / "in" / "a.parquet", content)
    run_file = tmp_path / "run.trec"
    command = ["rerank", str(job(tmp_path, cross_encoder)), "--trec-run", str(run_file)]
    assert execute(command) == ExitCode.DONE_WITH_ERRORS
    told = capfd.readouterr().out
    assert f"left out: 4 x {Reason.UNFIT_ID}" in told and r"doc_id 'd\nq9 Q0 forged 1 9 t'" in told
    with run_file.open("rb") as stream:
        found = read_run(stream, "run.trec", RaiseOnReject()).run
    assert {query: set(ranked.doc_ids) for query, ranked in found.items()} == {
        "q0": {"d0-0", "d0-2"},
        "q2": {"d2-0", "d2-1", "d2-2"},
    }
    assert len(ranking(tmp_path / "out")["a query"]) == 3


@here
def test_the_shards_of_a_prepare_that_did_not_finish_are_not_taken(
    tmp_path: Path, cross_encoder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(2, 2))
    (tmp_path / "in" / "_prepare.json").write_text('{"complete": false}')
    assert execute(["rerank", str(job(tmp_path, cross_encoder))]) == ExitCode.REFUSED
    assert "has not finished" in capfd.readouterr().err


def spoil_one_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGES = {
    "one byte": (spoil_one_byte, "its bytes are not those that were written"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "where"),
    "another of its size": (lambda path: path.write_bytes(b"x" * path.stat().st_size), "its bytes are not those"),
    "gone": (lambda path: path.unlink(), "no such file"),
}


@here
@pytest.mark.parametrize("command", ["rerank", "label", "label standardised"])
def test_damage_to_what_is_done_is_named_by_verify_and_only_those_units_are_done_again(
    tmp_path: Path, cross_encoder: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    content = rows(len(DAMAGES) + 3, 4)
    content[-1]["candidates"] = []
    write_candidates(tmp_path / "in" / "a.parquet", content, row_group_size=1)
    output = tmp_path / "out"
    name, *more = command.split()
    combined = [f"--combine={more[0]}"] if more else []
    scored = ["--model", str(cross_encoder), "--unit-pairs", "4"]
    job_ = [name, "--input", str(tmp_path / "in"), "--output", str(output), *scored, *combined]
    assert execute(job_) == ExitCode.DONE_WITH_ERRORS  # an empty list of candidates is an error row
    assert execute(["inspect", str(output), "--verify"]) == ExitCode.DONE_WITH_ERRORS
    assert "damaged" not in capfd.readouterr().out
    written = {path: path.read_bytes() for path in output.glob("**/*.parquet")}

    parts = sorted(output.glob("part-*.parquet"))
    for part, (spoil, _) in zip(parts, DAMAGES.values(), strict=False):
        spoil(part)
    (errors,) = output.glob("_errors/*.parquet")
    spoil_one_byte(errors)
    marker = output / "_run" / "done" / f"{parts[len(DAMAGES)].stem.removeprefix('part-')}.json"
    marker.write_text(marker.read_text()[:20])
    damaged = [*parts[: len(DAMAGES)], errors, marker]
    assert execute(["inspect", str(output), "--verify", "--json"]) == ExitCode.DONE_WITH_ERRORS
    told = {one["file"]: one["reason"] for one in json.loads(capfd.readouterr().out)["damaged"]}
    assert set(told) == set(map(str, damaged))
    for part, (_, reason) in zip(parts, DAMAGES.values(), strict=False):
        assert reason in told[str(part)]

    whole = output / "_run" / "done" / f"{parts[len(DAMAGES) + 1].stem.removeprefix('part-')}.json"
    before = whole.read_bytes()
    assert execute([*job_, "--verify"]) == ExitCode.DONE_WITH_ERRORS
    said = capfd.readouterr().out
    assert all(f"damaged: {path}: " in said for path in damaged)
    assert {path: path.read_bytes() for path in output.glob("**/*.parquet")} == written
    assert whole.read_bytes() == before, "a unit that was whole was done again"
    assert execute(["inspect", str(output), "--verify"]) == ExitCode.DONE_WITH_ERRORS
    assert "damaged" not in capfd.readouterr().out


@here
def test_parquet_files_of_no_unit_are_told_by_verify(
    tmp_path: Path, cross_encoder: Path, three_shards: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["rerank", str(job(tmp_path, cross_encoder))]
    assert execute([*command, "--verify", "--dry-run"]) == ExitCode.DONE
    assert execute([*command, "--verify"]) == ExitCode.DONE
    assert execute(["inspect", str(tmp_path / "out"), "--verify"]) == ExitCode.DONE
    assert "units were read: all is as it was written" in capfd.readouterr().out
    shutil.copy(next((tmp_path / "out").glob("part-*")), tmp_path / "out" / "part-copy.parquet")
    assert execute(["inspect", str(tmp_path / "out"), "--verify"]) == ExitCode.DONE_WITH_ERRORS
    assert "part-copy.parquet: is of no unit of this run; remove it" in capfd.readouterr().out
    assert execute([*command, "--verify"]) == ExitCode.REFUSED
    assert "part-copy.parquet" in capfd.readouterr().out


@here
def test_a_trec_run_is_not_made_of_damaged_parts(
    tmp_path: Path, cross_encoder: Path, three_shards: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["rerank", str(job(tmp_path, cross_encoder))]
    assert execute(command) == ExitCode.DONE
    spoil_one_byte(next((tmp_path / "out").glob("part-*")))
    assert execute([*command, "--trec-run", str(tmp_path / "run.trec")]) == ExitCode.REFUSED
    assert "its bytes are not those that were written" in capfd.readouterr().err
    assert not (tmp_path / "run.trec").exists()
