"""Every scorer family through the real job, alone and in cascades, ranked as it scores from Python."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from ray_rerank.jobs import rerank
from ray_rerank.jobs.cli.arguments import parse
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.scorers.registry import FAMILIES, scorer_config
from support.candidates import rows, write_candidates
from support.command import execute
from support.marks import here
from support.models import write_bi_encoder, write_colbert, write_t5


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, cross_encoder: Path) -> dict[str, str]:
    """A small model of each kind."""
    folder = tmp_path_factory.mktemp("models")
    t5 = str(write_t5(folder / "t5"))
    made = {"cross-encoder": str(cross_encoder), "monot5": t5, "rankt5": t5, "duot5": t5}
    made["bi-encoder"] = str(write_bi_encoder(folder / "bi"))
    made["colbert"] = str(write_colbert(folder / "colbert"))
    assert sorted(made) == sorted(FAMILIES)
    return made


def run(folder: Path, stages: list[dict[str, Any]], **fields: Any) -> dict[str, list[dict[str, Any]]]:
    arguments = ["--input", str(folder / "in"), "--output", str(folder / "out"), "--stages", json.dumps(stages)]
    assert execute(["rerank", *arguments, *fields.get("more", [])]) == fields.get("code", ExitCode.DONE)
    table = pads.dataset(str(folder / "out")).to_table().to_pylist()
    return {row["query_id"]: row["ranking"] for row in table}


def scorer(models: dict[str, str], kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "model": models[kind], "precision": "fp32", **fields}


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != "cross-encoder"])
@here
def test_the_job_ranks_as_the_scorer_scores(tmp_path: Path, models: dict[str, str], kind: str) -> None:
    content = rows(7, 5)
    content[3]["query"] = content[2]["query"]  # two queries of one text are still two lists
    write_candidates(tmp_path / "in" / "a.parquet", content)
    found = run(tmp_path, [{"scorer": scorer(models, kind), "actors": 1}], more=["--unit-pairs", "15"])
    loaded = scorer_config(scorer(models, kind)).load()
    for row in content:
        texts = [candidate["text"] for candidate in row["candidates"]]
        scores = loaded.score([(row["query"], text) for text in texts])
        expected = dict(zip((candidate["doc_id"] for candidate in row["candidates"]), scores, strict=True))
        got = {candidate["doc_id"]: candidate["score"] for candidate in found[row["query_id"]]}
        assert got.keys() == expected.keys()
        np.testing.assert_allclose([got[name] for name in got], [expected[name] for name in got], atol=1e-4)
    report = json.loads((tmp_path / "out" / "_run" / "report.json").read_text())
    if kind == "duot5":
        assert report["stages"][0]["pairs"] == 35
        assert 35 < report["stages"][0]["evaluations"] <= 7 * 5 * 4


@here
def test_three_stages_narrow_down_and_what_fell_out_keeps_its_place(tmp_path: Path, models: dict[str, str]) -> None:
    content = rows(4, 12)
    write_candidates(tmp_path / "in" / "a.parquet", content)
    stages = [
        {"scorer": scorer(models, "bi-encoder"), "keep": 8, "actors": 1},
        {"scorer": scorer(models, "monot5"), "keep": 4, "actors": 1},
        {"scorer": scorer(models, "duot5"), "actors": 1},
    ]
    found = run(tmp_path, stages)
    bi, mono, duo = (scorer_config(stage["scorer"]).load() for stage in stages)
    for row in content:
        text = {candidate["doc_id"]: candidate["text"] for candidate in row["candidates"]}

        def order(loaded: Any, names: list[str], query: str = row["query"], text: dict[str, str] = text) -> list[str]:
            scores = loaded.score([(query, text[name]) for name in names])
            return [names[at] for at in np.argsort(-scores, kind="stable")]

        first = order(bi, list(text))
        second = order(mono, first[:8])
        assert [c["doc_id"] for c in found[row["query_id"]]] == order(duo, second[:4]) + second[4:] + first[8:]
        assert [c["stage"] for c in found[row["query_id"]]] == [3] * 4 + [2] * 4 + [1] * 4
    report = json.loads((tmp_path / "out" / "_run" / "report.json").read_text())
    assert [stage["pairs"] for stage in report["stages"]] == [48, 32, 16]


@pytest.mark.parametrize("kind", ["reciprocal-rank", "weighted"])
@here
def test_a_fused_stage_ranks_by_both_scores(tmp_path: Path, models: dict[str, str], kind: str) -> None:
    content = rows(3, 6)
    write_candidates(tmp_path / "in" / "a.parquet", content)
    found = run(tmp_path, [{"scorer": scorer(models, "cross-encoder"), "fusion": {"kind": kind}, "actors": 1}])
    loaded = scorer_config(scorer(models, "cross-encoder")).load()
    for row in content:
        mine = loaded.score([(row["query"], candidate["text"]) for candidate in row["candidates"]]).astype(float)
        before = np.array([candidate["score"] for candidate in row["candidates"]])
        if kind == "weighted":
            scale = [(side - side.min()) / (side.max() - side.min()) for side in (mine, before)]
            expected = (scale[0] + scale[1]) / 2
        else:
            ranks = [np.argsort(np.argsort(-side, kind="stable")) + 1 for side in (mine, before)]
            expected = 1 / (60 + ranks[0]) + 1 / (60 + ranks[1])
        got = {c["doc_id"]: c["score"] for c in found[row["query_id"]]}
        names = [candidate["doc_id"] for candidate in row["candidates"]]
        np.testing.assert_allclose([got[name] for name in names], expected, atol=1e-5)
        assert list(got.values()) == sorted(got.values(), reverse=True)


@here
def test_a_weighted_fusion_without_earlier_scores_costs_the_query_and_says_why(
    tmp_path: Path, models: dict[str, str]
) -> None:
    content = rows(3, 4)
    for candidate in content[1]["candidates"]:
        candidate["score"] = None
    write_candidates(tmp_path / "in" / "a.parquet", content)
    stages = [{"scorer": scorer(models, "cross-encoder"), "fusion": {"kind": "weighted"}, "actors": 1}]
    found = run(tmp_path, stages, code=ExitCode.DONE_WITH_ERRORS)
    assert sorted(found) == ["q0", "q2"]
    faults = pads.dataset([str(path) for path in (tmp_path / "out" / "_errors").glob("*.parquet")]).to_table()
    assert sum(faults["candidates"].to_pylist()) == 4
    assert any("reciprocal-rank" in reason for reason in faults["reason"].to_pylist())


@here
def test_another_template_on_the_same_output_is_refused(
    tmp_path: Path, models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(2, 3))
    run(tmp_path, [{"scorer": scorer(models, "monot5"), "actors": 1}])
    again = [{"scorer": scorer(models, "monot5", template="{query} {document}"), "actors": 1}]
    arguments = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--stages", json.dumps(again)]
    assert execute(["rerank", *arguments]) == ExitCode.REFUSED
    assert "template" in capsys.readouterr().err


@here
def test_a_target_that_is_no_token_is_told_before_any_unit_is_lost(
    tmp_path: Path, models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(2, 3))
    stages = [{"scorer": scorer(models, "monot5", targets=["▁quux", "▁true"]), "actors": 1}]
    arguments = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--stages", json.dumps(stages)]
    assert execute(["rerank", *arguments]) == ExitCode.REFUSED
    told = capsys.readouterr().err
    assert "'▁quux' is not one token" in told and "Traceback" not in told


@here
def test_a_model_by_kind_in_two_flags(tmp_path: Path, models: dict[str, str]) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(2, 3))
    flags = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--kind", "bi-encoder"]
    assert execute(["rerank", *flags, "--model", models["bi-encoder"], "--unit-pairs", "3"]) == ExitCode.DONE
    assert sum(pq.read_table(path).num_rows for path in (tmp_path / "out").glob("part-*.parquet")) == 2


@here
def test_json_on_the_command_line_is_read_as_json() -> None:
    template = 'Say "x", {query}\n▁ [{document}]:'
    for plain in (True, False):
        stages = json.dumps(
            [{"scorer": {"kind": "monot5", "model": "x", "template": template}}] * 2, ensure_ascii=plain
        )
        config = parse(rerank.Config, ["--input", "a", "--stages", stages, "--output", "b", "--unit-pairs", "7"])
        assert [stage.scorer.template for stage in config.stages] == [template] * 2
        assert (config.input, config.output, config.unit_pairs) == ("a", "b", 7)


@here
def test_a_weighted_fusion_with_scores_that_no_file_has_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa

    (tmp_path / "in").mkdir()
    pq.write_table(
        pa.table({"query_id": ["q"], "query": ["a"], "doc_id": ["d"], "text": ["b"]}), tmp_path / "in/x.parquet"
    )
    stages = json.dumps([{"scorer": {"model": "nowhere"}, "fusion": {"kind": "weighted"}}])
    arguments = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--stages", stages]
    assert execute(["rerank", *arguments]) == ExitCode.REFUSED
    assert "reciprocal-rank" in capsys.readouterr().err
