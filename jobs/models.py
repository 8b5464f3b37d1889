"""Say which published checkpoints there are to score with: size, needs, quality. Loads none of them."""

import json
from decimal import ROUND_HALF_UP, Decimal

from pydantic import Field, field_validator

from ray_rerank.jobs.config import JobConfig
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.outputs.files import STDOUT, JsonFile, check_output_files, write_json
from ray_rerank.operators.models.published import PRESETS, Preset
from ray_rerank.operators.scorers.registry import FAMILIES

_HEADER = ("kind", "model", "million", "MB", "MRR@10", "nDCG@10", "hardware", "source")
_NUMBERS = range(2, 6)


class Config(JobConfig):
    """List the presets; any other checkpoint of a kind can be named as well."""

    kind: str | None = Field(None, description=f"one of {', '.join(FAMILIES)}; default: all")
    json_file: JsonFile = Field(
        None,
        alias="json",
        description="write it as JSON to this file; without a value, to standard output instead of text",
    )

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str | None) -> str | None:
        if kind is not None and kind not in FAMILIES:
            raise ValueError(f"{kind!r} is none of {', '.join(FAMILIES)}")
        return kind


def run(config: Config) -> int:
    """Print the presets, of one kind or of all."""
    check_output_files(config)
    presets = [preset for preset in PRESETS if config.kind in (None, preset.kind)]
    if config.json_file:
        write_json(config.json_file, [preset.as_dict() for preset in presets])
    if config.json_file != STDOUT:
        _print(presets)
    return ExitCode.DONE


def _print(presets: list[Preset]) -> None:
    rows = [_HEADER, *(_cells(preset) for preset in presets)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    for row, preset in zip(rows, [None, *presets], strict=True):
        cells = [f"{cell:{'>' if at in _NUMBERS else '<'}{widths[at]}}" for at, cell in enumerate(row)]
        print("  ".join(cells).rstrip())
        if preset and preset.needs:
            print(f"{'':{widths[0]}}    needs {'; '.join(preset.needs)}")
        if preset and preset.settings:
            print(f"{'':{widths[0]}}    scorer: {json.dumps(preset.settings, ensure_ascii=False)}")
    print(
        "\nmillion: parameters; MB: in fp16, 2 bytes a parameter. MRR@10 on MS MARCO dev, nDCG@10 on TREC DL 2019, as"
    )
    print("published, so over different first stages; `-` where none was found.")
    print("The defaults of each kind (template, targets and so on) can be overridden under `scorer:` in the job file.")


def _cells(preset: Preset) -> tuple[str, ...]:
    size = f"{preset.parameters:g}", str(preset.fp16_megabytes)
    source = preset.source.name if preset.source else "-"
    return preset.kind, preset.model, *size, _figure(preset.mrr10), _figure(preset.ndcg10), preset.hardware, source


def _figure(value: float | None) -> str:
    return "-" if value is None else str(Decimal(str(value)).quantize(Decimal("0.001"), ROUND_HALF_UP))
