"""The listed checkpoints are scorers that a job can name, and every figure has its source."""

import json

import pytest

from ray_rerank.jobs.cli.arguments import parse
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.models import Config, run
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.models.published import PRESETS, Preset
from ray_rerank.operators.scorers.registry import FAMILIES, scorer_config
from support.command import execute

EACH = pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.model)


@EACH
def test_a_preset_is_a_scorer_that_a_job_file_can_name(preset: Preset) -> None:
    assert preset.kind in FAMILIES
    scorer = scorer_config({"kind": preset.kind, "model": preset.model, **preset.settings})
    assert (scorer.kind, scorer.model) == (preset.kind, preset.model)


@EACH
def test_a_figure_has_a_source_and_a_source_a_figure(preset: Preset) -> None:
    figures = [figure for figure in (preset.mrr10, preset.ndcg10) if figure is not None]
    assert all(0 < figure < 1 for figure in figures)
    assert (preset.source is not None) == bool(figures)
    if preset.source:
        assert preset.source.name and all(page.startswith("https://") for page in preset.source.pages)
        assert 1 <= len(preset.source.pages) <= len(figures)


@EACH
def test_parameters_are_what_the_weights_on_the_hub_hold(preset: Preset) -> None:
    assert preset.parameters == pytest.approx(preset.hub_megabytes / 4, rel=0.01)
    assert preset.fp16_megabytes == pytest.approx(preset.hub_megabytes / 2, rel=0.03)


def test_every_kind_has_a_preset_and_none_is_listed_twice() -> None:
    assert {preset.kind for preset in PRESETS} == set(FAMILIES)
    assert len({preset.model for preset in PRESETS}) == len(PRESETS)


def test_json_is_the_data(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["models", "--json"]) == ExitCode.DONE
    assert json.loads(capfd.readouterr().out) == [preset.as_dict() for preset in PRESETS]


def test_kind_filters(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(parse(Config, ["--kind", "colbert", "--json"])) == ExitCode.DONE
    found = json.loads(capfd.readouterr().out)
    assert found and found == [preset.as_dict() for preset in PRESETS if preset.kind == "colbert"]


def test_the_table_names_every_preset_and_says_what_can_be_overridden(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["models"]) == ExitCode.DONE
    printed = capsys.readouterr().out
    lines = {cells[1]: cells for cells in map(str.split, printed.splitlines()) if len(cells) > 1}
    assert all(preset.model in lines for preset in PRESETS)
    assert lines["cross-encoder/ms-marco-MiniLM-L6-v2"][2:6] == ["22.7", "45", "0.390", "0.743"]
    assert lines["sentence-transformers/all-MiniLM-L6-v2"][4:6] == ["-", "-"]
    assert '"refs/pr/1"' in printed and "▁yes" in printed
    assert "overridden under `scorer:` in the job file" in printed.splitlines()[-1]


def test_an_unknown_kind_is_refused_with_the_kinds_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["models", "--kind", "splade"]) == ExitCode.REFUSED == 2
    said = capsys.readouterr().err
    assert "splade" in said and all(kind in said for kind in FAMILIES)
    with pytest.raises(InputError):
        parse(Config, ["--kind", "splade"])
