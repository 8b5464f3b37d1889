"""`ray-rerank label`: the canonical table of teacher scores, from one teacher or several."""

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
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.scorers.registry import scorer_config
from support.candidates import rows
from support.command import execute, without_ray
from support.marks import here, on_ray
from support.models import write_cross_encoder, write_t5


def mined(folder: Path, queries: int = 12, depth: int = 6) -> list[dict[str, Any]]:
    """Flat shards as `mine` writes them, in two files; their rows."""
    flat = [
        {
            "query_id": row["query_id"],
            "query": row["query"],
            "doc_id": candidate["doc_id"],
            "text": candidate["text"],
            "score": None if place == 0 else candidate["score"],
            "label": float(place == 0),
            "source": "positive" if place == 0 else "bm25",
        }
        for row in rows(queries, depth)
        for place, candidate in enumerate(row["candidates"])
    ]
    schema = pa.schema(
        [(name, pa.string()) for name in ("query_id", "query", "doc_id", "text")]
        + [("score", pa.float32()), ("label", pa.float32()), ("source", pa.string())]
    )
    folder.mkdir()
    half = queries // 2 * depth
    for number, part in enumerate((flat[:half], flat[half:])):
        name = f"candidates-{number:05d}-of-00002.parquet"
        pq.write_table(pa.Table.from_pylist(part, schema=schema), folder / name)
    return flat


def teacher(kind: str, model: Path) -> dict[str, Any]:
    return {"kind": kind, "model": str(model), "precision": "fp32", "actors": 1}


def label(folder: Path, teachers: list[dict[str, Any]], *more: str, output: str = "labels") -> int:
    arguments = ["--input", str(folder / "mined"), "--output", str(folder / output), "--unit-pairs", "20"]
    return execute(["label", *arguments, "--teachers", json.dumps(teachers), *more])


def written(output: Path) -> list[dict[str, Any]]:
    """The labels in the order of the parts, queries contiguous and no pair twice."""
    found: list[dict[str, Any]] = []
    for part in sorted(output.glob("part-*.parquet")):
        found += pq.read_table(part).to_pylist()
    assert len({(row["query_id"], row["doc_id"]) for row in found}) == len(found)
    return found


def direct(model: dict[str, Any], pairs: list[dict[str, Any]]) -> np.ndarray:
    scorer = scorer_config({key: value for key, value in model.items() if key != "actors"}).load()
    return scorer.score([(pair["query"], pair["text"]) for pair in pairs])


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("t5") / "model")


@on_ray
def test_the_canonical_table_holds_the_teachers_raw_logits_with_label_and_source(
    tmp_path: Path, cross_encoder: Path
) -> None:
    flat = mined(tmp_path / "mined")
    one = teacher("cross-encoder", cross_encoder)
    assert label(tmp_path, [one]) == ExitCode.DONE
    found = written(tmp_path / "labels")
    strings = [(name, pa.string()) for name in ("query_id", "query", "doc_id", "text")]
    assert pads.dataset(str(tmp_path / "labels")).schema.equals(
        pa.schema(
            [*strings, ("score", pa.float32()), ("rank", pa.int32()), ("label", pa.float32()), ("source", pa.string())]
        )
    )
    given = {(row["query_id"], row["doc_id"]): row for row in flat}
    assert given.keys() == {(row["query_id"], row["doc_id"]) for row in found}
    for row in found:
        before = given[row["query_id"], row["doc_id"]]
        assert all(row[name] == before[name] for name in ("query", "text", "label", "source"))
    np.testing.assert_allclose([row["score"] for row in found], direct(one, found), atol=1e-5)
    assert [row["query_id"] for row in found] == [f"q{number}" for number in range(12) for _ in range(6)]
    assert [row["rank"] for row in found] == [1, 2, 3, 4, 5, 6] * 12
    for start in range(0, len(found), 6):
        scores = [row["score"] for row in found[start : start + 6]]
        assert scores == sorted(scores, reverse=True)


@here
def test_an_ensembles_score_is_the_weighted_mean_of_raw_logits_which_stand_beside_it(
    tmp_path: Path, cross_encoder: Path, t5: Path
) -> None:
    flat = mined(tmp_path / "mined")
    two = [teacher("cross-encoder", cross_encoder), teacher("monot5", t5)]
    job = {"input": str(tmp_path / "mined"), "output": str(tmp_path / "labels"), "weights": [0.7, 0.3]}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job | {"teachers": two, "unit_pairs": 30}))
    assert execute(["label", str(tmp_path / "job.yaml")]) == ExitCode.DONE
    found = written(tmp_path / "labels")
    assert len(found) == len(flat)
    own = [[row["teacher_1"] for row in found], [row["teacher_2"] for row in found]]
    for model, scores in zip(two, own, strict=True):
        np.testing.assert_allclose(scores, direct(model, found), atol=1e-5)
    mean = 0.7 * np.array(own[0]) + 0.3 * np.array(own[1])
    np.testing.assert_allclose([row["score"] for row in found], mean, rtol=1e-6)
    assert [row["first_stage_rank"] for row in sorted(found, key=lambda row: (row["query_id"], row["doc_id"]))] == [
        1, 2, 3, 4, 5, 6,
    ] * 12  # fmt: skip


@on_ray
def test_standardised_scores_are_those_of_all_pairs_together_and_a_crash_between_leaves_no_trace(
    tmp_path: Path, cross_encoder: Path, t5: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mined(tmp_path / "mined")
    two = [teacher("cross-encoder", cross_encoder), teacher("monot5", t5)]
    more = ("--combine", "standardised", "--weights", "2,1", "--cache", str(tmp_path / "cache"))
    with without_ray():
        assert label(tmp_path, two, *more) == ExitCode.DONE
    found = written(tmp_path / "labels")
    own = np.array([[row["teacher_1"], row["teacher_2"]] for row in found], np.float64)
    standard = (own - own.mean(axis=0)) / own.std(axis=0)
    np.testing.assert_allclose([row["score"] for row in found], standard @ [2 / 3, 1 / 3], atol=1e-6)
    for query in {row["query_id"] for row in found}:
        mine = [row for row in found if row["query_id"] == query]
        assert [row["rank"] for row in mine] == list(range(1, 7))
        assert [row["score"] for row in mine] == sorted((row["score"] for row in mine), reverse=True)

    shutil.rmtree(tmp_path / "labels" / "_run" / "done")
    for part in sorted((tmp_path / "labels").glob("part-*"))[:2]:
        part.unlink()
    with without_ray():
        assert label(tmp_path, two, *more) == ExitCode.DONE
    assert written(tmp_path / "labels") == found

    # killed after the first pass of a unit: its scores are null and it does not count as done
    marker = sorted((tmp_path / "labels" / "_run" / "done").iterdir())[0]
    content = json.loads(marker.read_text())
    marker.write_text(json.dumps(content | {"provisional": True}))
    capsys.readouterr()
    assert execute(["inspect", str(tmp_path / "labels")]) == ExitCode.DONE_WITH_ERRORS
    assert "1 left" in capsys.readouterr().out
    training = ["train", "--input", str(tmp_path / "labels"), "--model", str(cross_encoder)]
    assert execute([*training, "--output", str(tmp_path / "student")]) == ExitCode.REFUSED
    assert "1 units are left" in capsys.readouterr().err
    assert label(tmp_path, two, *more) == ExitCode.DONE
    assert written(tmp_path / "labels") == found
    assert execute(["inspect", str(tmp_path / "labels")]) == ExitCode.DONE


@here
def test_a_second_labelling_takes_all_scores_from_the_cache(tmp_path: Path, cross_encoder: Path) -> None:
    mined(tmp_path / "mined", queries=4)
    cache = ("--cache", str(tmp_path / "cache"))
    assert label(tmp_path, [teacher("cross-encoder", cross_encoder)], *cache) == ExitCode.DONE
    assert label(tmp_path, [teacher("cross-encoder", cross_encoder)], *cache, output="again") == ExitCode.DONE
    [work] = json.loads((tmp_path / "again" / "_run" / "report.json").read_text())["stages"]
    assert (work["cached"], work["evaluations"]) == (24, 0)
    assert written(tmp_path / "again") == written(tmp_path / "labels")


@here
def test_what_cannot_be_scored_is_left_out_and_listed_and_the_rest_is_labelled(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content: list[dict[str, Any]] = rows(5, 4)
    for row in content:
        for place, candidate in enumerate(row["candidates"]):
            candidate |= {"label": place == 1, "source": "run"}
    content[0]["query"] = None
    content[1]["candidates"] = []
    content[2]["candidates"][1]["text"] = " "
    content[3]["candidates"][3]["doc_id"] = content[3]["candidates"][1]["doc_id"]
    (tmp_path / "mined").mkdir()
    pq.write_table(pa.Table.from_pylist(content), tmp_path / "mined" / "a.parquet")
    assert label(tmp_path, [teacher("cross-encoder", cross_encoder)], "--no-include-text") == ExitCode.DONE_WITH_ERRORS
    found = written(tmp_path / "labels")
    assert set(found[0]) == {"query_id", "doc_id", "score", "rank", "label", "source"}
    assert {(row["doc_id"], row["label"], row["source"]) for row in found if row["query_id"] == "q4"} == {
        ("d4-0", 0, "run"), ("d4-1", 1, "run"), ("d4-2", 0, "run"), ("d4-3", 0, "run"),
    }  # fmt: skip
    errors = pads.dataset(sorted(map(str, (tmp_path / "labels" / "_errors").glob("*.parquet")))).to_table()
    assert len(found) + sum(errors["candidates"].to_pylist()) == 16 == sum(len(row["candidates"]) for row in content)
    assert "10 of 16 candidates" in capsys.readouterr().out


@here
def test_a_pair_that_one_teacher_cannot_score_is_labelled_by_none(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = mined(tmp_path / "mined", queries=4)
    broken = write_cross_encoder(tmp_path / "broken", seed=1)
    [word] = AutoTokenizer.from_pretrained(broken)("yeast", add_special_tokens=False)["input_ids"]
    weights = load_file(broken / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"][word] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    two = [teacher("cross-encoder", cross_encoder), teacher("cross-encoder", broken)]
    assert label(tmp_path, two) == ExitCode.DONE_WITH_ERRORS
    good = [row["doc_id"] for row in flat if "yeast" not in f"{row['query']} {row['text']}".split()]
    assert 0 < len(good) < len(flat)
    assert {row["doc_id"] for row in written(tmp_path / "labels")} == set(good)
    told = capsys.readouterr().out
    assert f"{len(flat) - len(good)} x stage 2 gave a score that is not a finite number" in told


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--weights", "1,2"], "2 weights for 1 teachers"),
        (["--weights", "0"], "a weight is a number above 0"),
        (["--combine", "median"], "combine"),
        (["--teachers", "[]"], "there is nothing to label with"),
        (["--model", "somewhere"], "give `model` or `teachers`, not both"),
        (["--teachers", '[{"model": "m", "keep": 3}]'], "keep"),
    ],
)
@here
def test_what_is_wrong_with_the_teachers_is_refused_and_told(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    arguments = ["--teachers", json.dumps([teacher("cross-encoder", cross_encoder)])]
    arguments = more if more[0] == "--teachers" else [*arguments, *more]
    code = execute(["label", "--input", str(tmp_path), "--output", str(tmp_path / "labels"), *arguments])
    assert code == ExitCode.REFUSED
    assert told in capsys.readouterr().err


@here
def test_a_label_that_is_no_number_is_refused_and_a_dry_run_writes_nothing(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mined(tmp_path / "mined", queries=2)
    one = [teacher("cross-encoder", cross_encoder)]
    assert label(tmp_path, one, "--dry-run") == ExitCode.DONE
    assert not (tmp_path / "labels").exists()
    shard = tmp_path / "mined" / "candidates-00000-of-00002.parquet"
    table = pq.read_table(shard)
    pq.write_table(table.set_column(5, "label", pa.array(["yes"] * table.num_rows)), shard)
    capsys.readouterr()
    assert label(tmp_path, one) == ExitCode.REFUSED
    assert "column 'label' is string; it should be a number" in capsys.readouterr().err
