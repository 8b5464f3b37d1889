"""`ray-rerank compare` from its command line, on small random models."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from ray_rerank.jobs.cli.arguments import parse
from ray_rerank.jobs.compare.config import Config
from ray_rerank.jobs.compare.entries import entries_of_models
from ray_rerank.jobs.compare.picture import draw
from ray_rerank.jobs.compare.table import print_comparison
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.comparison.schema import FIRST_STAGE, Comparison, ComparisonRow, Cost, Figure, Size, Timing
from ray_rerank.operators.errors import InputError
from support.candidates import rows, write_candidates
from support.command import execute, without_ray
from support.models import write_cross_encoder

QUERIES, DEPTH = 6, 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cross_encoder: Path) -> Path:
    """Candidates and judgements; the first relevant document of each query stands at place 2."""
    folder = tmp_path_factory.mktemp("compare")
    write_candidates(folder / "in" / "a.parquet", rows(QUERIES, DEPTH))
    (folder / "qrels.txt").write_text("".join(f"q{n} 0 d{n}-1 2\nq{n} 0 d{n}-7 1\n" for n in range(QUERIES)))
    write_cross_encoder(folder / "other", seed=1, num_hidden_layers=1)
    return folder


def compare(folder: Path, output: Path, scorers: Any, *flags: str, code: int = ExitCode.DONE) -> Any:
    given = ["--candidates", str(folder / "in"), "--qrels", str(folder / "qrels.txt"), "--output", str(output)]
    assert execute(["compare", *given, "--scorers", json.dumps(scorers), *flags]) == code
    return json.loads((output / "comparison.json").read_text()) if (output / "comparison.json").is_file() else None


def scorer(model: Path, **fields: Any) -> dict[str, Any]:
    return {"kind": "cross-encoder", "model": str(model), "precision": "fp32", **fields}


@pytest.mark.usefixtures("ray_here")
def test_scorers_and_a_cascade_are_compared_and_one_that_cannot_be_loaded_is_said(
    folder: Path, tmp_path: Path, cross_encoder: Path, capsys: Any
) -> None:
    pytest.importorskip("matplotlib")
    cascade = [{"scorer": scorer(folder / "other"), "keep": 4}, {"scorer": scorer(cross_encoder)}]
    scorers = [
        {"name": "large", "scorer": scorer(cross_encoder)},
        {"name": "small", "scorer": scorer(folder / "other")},
        {"name": "gone", "scorer": scorer(folder / "nowhere")},
        {"name": "both", "stages": cascade},
        {"name": "untimed", "scorer": scorer(folder / "other"), "timing": False},
    ]
    flags = ["--rounds", "2", "--timing-queries", "3", "--timing-depth", "5", "--price-per-hour", "1.2"]
    flags += ["--baseline", "small", "--measures", "MRR@10 nDCG@10", "--cache", str(tmp_path / "cache")]
    with without_ray():
        ranked = compare(folder, tmp_path / "out", scorers, *flags, "--no-timing", code=ExitCode.DONE_WITH_ERRORS)
    assert ranked["timing"] is None and all(one["cost"] is None for one in ranked["scorers"])
    assert "no picture: nothing was timed" in capsys.readouterr().out

    found = compare(folder, tmp_path / "out", scorers, *flags, code=ExitCode.DONE_WITH_ERRORS)
    assert [one["quality"] for one in ranked["scorers"]] == [one["quality"] for one in found["scorers"]]
    printed = capsys.readouterr().out
    assert len(re.findall(r"units done \(\d+ of them before\), 0 left", printed)) == 4
    row = {one["name"]: one for one in found["scorers"]}
    assert list(row) == [FIRST_STAGE, "large", "small", "gone", "both", "untimed"]
    assert row[FIRST_STAGE]["quality"]["MRR@10"]["value"] == pytest.approx(0.5)
    assert "there is no such directory" in row["gone"]["error"] and row["gone"]["quality"] == {}
    assert row["small"]["quality"]["nDCG@10"]["difference"] is None
    assert row["large"]["quality"]["nDCG@10"]["difference"]["p_holm"] > 0
    assert row["large"]["cost"]["precision"] == ["fp32"] and row["both"]["cost"]["precision"] == ["fp32", "fp32"]
    assert row["small"]["cost"]["speed_ratio"] == 1
    assert re.search(r"^untimed .* - *$", printed, re.M), "beaten is not what it is: it was not timed"
    worth = {name: one["quality"]["nDCG@10"]["value"] for name, one in row.items() if one["quality"]}
    timed = {name: (one["cost"]["latency_ms"], -worth[name]) for name, one in row.items() if one["cost"]}
    assert set(timed) == {"large", "small", "both"}
    beaten = {
        name
        for name, own in timed.items()
        if any(other != own and other[0] <= own[0] and other[1] <= own[1] for other in timed.values())
    }
    front = {name for name, one in row.items() if one["on_front"]}
    assert front == timed.keys() - beaten
    assert re.search(rf"^{FIRST_STAGE} .* - *$", printed, re.M), "it was not timed"
    below = any(worth[name] < worth[FIRST_STAGE] for name in front)
    assert any("and below the first stage" in note for note in found["notes"]) == below
    assert row["untimed"]["cost"] is None and row["untimed"]["quality"]["nDCG@10"]["difference"]["value"] == 0
    rate = row["large"]["cost"]["pairs_per_second"]
    assert row["large"]["cost"]["per_million_pairs"] == pytest.approx(1.2 / (rate * 3600) * 1e6)
    assert row["both"]["size"]["megabytes"] == pytest.approx(
        sum(row[n]["size"]["megabytes"] for n in ("large", "small"))
    )
    assert found["timing"]["pairs"] == 15 and found["timing"]["hardware"]
    assert re.search(r"gone: failed: .*nowhere: there is no such directory", printed)
    assert "RR(rel=2)@10 asks for 2" in printed
    for name in ("large", "small", "both"):
        assert evaluated(folder, tmp_path / "out" / "rankings" / name, tmp_path) == pytest.approx(
            {measure: figure["value"] for measure, figure in row[name]["quality"].items()}
        )
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "out" / "comparison.svg").read_text()
    Comparison.model_validate(found)

    flags = ["--rounds", "1", "--timing-queries", "1", "--baseline", "untimed"]
    found = compare(folder, tmp_path / "paceless", [scorers[1], scorers[4]], *flags)
    assert found["scorers"][1]["cost"]["speed_ratio"] is None
    assert found["notes"][-1] == "the baseline untimed was not timed: there are no ratios to it"


def evaluated(folder: Path, ranking: Path, tmp_path: Path) -> dict[str, float]:
    """What the job `evaluate` says of a ranking."""
    given = ["--ranking", str(ranking), "--qrels", str(folder / "qrels.txt"), "--measures", "MRR@10 nDCG@10"]
    assert execute(["evaluate", *given, f"--json={tmp_path / 'metrics.json'}"]) == ExitCode.DONE
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    return {name: figures["reranked"] for name, figures in metrics.items()}


@pytest.mark.usefixtures("in_process")
def test_rows_that_a_scorer_leaves_out_are_said_in_its_row(tmp_path: Path, cross_encoder: Path, capsys: Any) -> None:
    content = rows(3, 4)
    content[1]["candidates"][0]["text"] = " "
    write_candidates(tmp_path / "in" / "a.parquet", content)
    (tmp_path / "qrels.txt").write_text("q0 0 d0-0 1\nq7 0 d7-1 1\n")
    only = [{"name": "only", "scorer": scorer(cross_encoder)}]
    found = compare(
        tmp_path, tmp_path / "out", only, "--no-timing", "--baseline", FIRST_STAGE, code=ExitCode.DONE_WITH_ERRORS
    )
    assert found["scorers"][1]["notes"] == ["1 lines in its error tables, most of all: the text is empty"]
    assert "1 of 2 judged queries lack candidates and count as 0" in capsys.readouterr().out
    assert found["queries"] == 2 and found["baseline"] == FIRST_STAGE


def test_nothing_is_started_where_no_scorer_can_be_used(folder: Path, tmp_path: Path, capsys: Any) -> None:
    gone = [{"name": name, "scorer": scorer(folder / name)} for name in ("a", "b")]
    assert compare(folder, tmp_path / "out", gone, code=ExitCode.REFUSED) is None
    assert "no scorer can be used:\n  a: " in capsys.readouterr().err


def test_candidates_without_a_query_that_can_be_ranked_are_refused(
    tmp_path: Path, cross_encoder: Path, capsys: Any
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", [row | {"query": " "} for row in rows(2, 2)])
    (tmp_path / "qrels.txt").write_text("q0 0 d0-0 1\n")
    only = [{"name": "only", "scorer": scorer(cross_encoder)}]
    assert compare(tmp_path, tmp_path / "out", only, code=ExitCode.REFUSED) is None
    assert "no query that can be ranked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to compare"),
        (["--models", "x/a,y/b", "--scorers", '[{"name":"c","scorer":{"model":"c"}}]'], "not both"),
        (
            ["--scorers", '[{"name":"a","scorer":{"model":"m"}},{"name":"A","scorer":{"model":"m"}}]'],
            "a name of its own",
        ),
        (["--models", "a,b", "--baseline", "c"], "'c' is none of first stage, a, b"),
        (["--scorers", '[{"name":"a"}]'], "give `scorer` or `stages`"),
        (["--scorers", '[{"name":"../a","scorer":{"model":"m"}}]'], "name"),
        (["--scorers", '[{"name":"a","scorer":{"kind":"splade","model":"m"}}]'], "`kind` is one of"),
    ],
)
def test_a_config_that_makes_no_comparison_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse(Config, ["--candidates", "c", "--qrels", "q", "--output", "o", *arguments])


def test_models_are_short_for_cross_encoders_named_by_what_tells_them_apart() -> None:
    given = ["--candidates", "c", "--qrels", "q", "--output", "o", "--models", "org/one,org/two"]
    config = parse(Config, given)
    assert [(entry.name, entry.kind) for entry in config.scorers] == [(n, "cross-encoder") for n in ("one", "two")]
    assert [one["name"] for one in entries_of_models(["/x/a/model", "b/model"], {})] == ["a-model", "b-model"]


def made_up(points: dict[str, tuple[float, float, float]]) -> Comparison:
    """A comparison of scorers with these latencies, figures and megabytes."""
    timing = Timing(queries=1, documents=100, pairs=100, rounds=1, hardware=("made up",), price_per_hour=None)
    scored = [
        ComparisonRow(
            name=name,
            kind="cross-encoder",
            stages=({},),
            ranking=None,
            quality={"nDCG@10": Figure(value=value, interval=(value - 0.05, value + 0.05), difference=None)},
            size=Size(megabytes=megabytes, million_parameters=1),
            cost=Cost(
                latency_ms=latency,
                latency_p95_ms=latency,
                latency_ratio=None,
                pairs_per_second=1,
                speed_ratio=None,
                speed_ratio_range=None,
                per_million_pairs=None,
                precision=("fp32",),
                threads=1,
            ),
            on_front=True,
        )
        for name, (latency, value, megabytes) in points.items()
    ]
    return Comparison(
        candidates="c",
        qrels="q",
        queries=1,
        measures=("nDCG@10",),
        front_measure="nDCG@10",
        baseline="a",
        seed=0,
        timing=timing,
        notes=(),
        scorers=tuple(scored),
    )


def test_the_picture_names_every_scorer_and_the_front() -> None:
    pytest.importorskip("matplotlib")
    drawn = draw(made_up({"one": (10.0, 0.5, 20.0), "two": (900.0, 0.6, 400.0)}), "nDCG@10")
    assert drawn is not None and set(drawn) == {"png", "svg"}
    text = drawn["svg"].decode()
    assert all(f"<!-- {name} -->" in text for name in ("one, 20 MB", "two, 400 MB", "Pareto front (names in bold)"))


def test_no_table_is_cut_off_in_a_narrow_window(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    long = "a-name-that-is-far-longer-than-the-window-is-wide"
    print_comparison(made_up({long: (10.0, 0.5, 20.0), "two": (900.0, 0.6, 400.0)}))
    printed = capsys.readouterr().out
    assert re.search(rf"{long} +0\.5000 +10\.0 +1\.00 +20\.0 +yes", printed)
    assert re.search(rf"{long} +0\.5000 +0\.4500 to 0\.5500 *\n", printed)


def test_without_matplotlib_there_is_no_picture_and_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert draw(made_up({"one": (10.0, 0.5, 20.0)}), "nDCG@10") is None
