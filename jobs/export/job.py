"""Write labels in the form that a training tool reads."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from ray_rerank.cluster.lease import held
from ray_rerank.cluster.records import Record
from ray_rerank.cluster.storage import absolute, check_writable, filesystem, join, open_read, write_whole
from ray_rerank.jobs.config import JobConfig
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.export.files import SECOND, export_files
from ray_rerank.jobs.inputs.files import PARQUET, input_files
from ray_rerank.jobs.outputs import shards as prepared_folder
from ray_rerank.jobs.outputs.checks import check_apart, check_folder
from ray_rerank.jobs.outputs.finished import check_finished
from ray_rerank.jobs.outputs.record import FolderRecord, Overwrite, check_known, load_record, may_resume, visible_names
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.export_formats import EXPORTS
from ray_rerank.operators.export_formats.groups import InputFault, columns_of, groups
from ray_rerank.operators.export_formats.ms_marco import UNFIT
from ray_rerank.operators.export_formats.selection import ExportOptions, Positives, Tuples
from ray_rerank.operators.formats.parquet_rows import open_parquet, parquet_rows
from ray_rerank.operators.location import Location

RECORD = "_export/export.json"  # not beside the files: tools read every .json of a folder


class _Export(Record, extra="allow"):
    """What was asked for, and the files that were written: names in the folder, for another export removes them."""

    files: list[Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*$", max_length=255)]]


class Config(JobConfig):
    """Write labels in the form that a training tool reads."""

    input: Location = Field(description="output of `label`, or Parquet with query_id, query, doc_id, text, score")
    format: str = Field(description=" | ".join(EXPORTS))
    output: Location = Field(description="folder or URI of the files")
    positives: Positives = Field(
        "auto",
        description="labels: those with a label above 0; best: the teacher's best; auto: labels for a query that has "
        "any, else best; all others are negatives",
    )
    negatives: int | None = Field(None, ge=1, description="how many a positive (or a query), drawn; default: all")
    min_margin: float | None = Field(None, description="least by which the teacher puts a positive above a negative")
    seed: int = Field(0, ge=0, description="of the draw")
    tuples: Tuples | None = Field(
        None,
        description="margin-mse: negative_1 to negative_n in place of triplets, labelled by n margins or n+1 scores",
    )
    integer_ids: bool = Field(False, description="ms-marco: write ids as numbers, as MS MARCO has them")
    overwrite: Overwrite = False

    @field_validator("format")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in EXPORTS:
            raise ValueError(f"{name!r} is none of {', '.join(EXPORTS)}")
        return name

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        for name in ("tuples", "integer_ids"):
            if getattr(self, name) and name not in EXPORTS[self.format].options:
                owner = next(export.name for export in EXPORTS.values() if name in export.options)
                raise ValueError(f"`{name}` is an option of {owner}, not of {self.format}")
        if self.tuples and not self.negatives:
            raise ValueError("`tuples` needs `negatives`: how many columns there are")
        return self

    def choice(self) -> ExportOptions:
        """The part that decides the rows."""
        names = ("positives", "negatives", "min_margin", "seed", "tuples", "integer_ids")
        return ExportOptions(**{name: getattr(self, name) for name in names})


def run(config: Config) -> int:
    """Export, and say what was left out.

    Raises:
        UserError, ClusterError: the input is not labels or not finished, or the output cannot be written.
    """
    output = absolute(config.output)
    if job := prepared_folder.written_by(config.input):
        raise InputError(f"{config.input}: `ray-rerank {job}` wrote this: no teacher gave its scores; run label on it")
    notes = check_finished(config.input)
    files = [file.path for file in input_files(config.input, PARQUET, "`ray-rerank label` writes labels")]
    check_apart(output=config.output, input=config.input)
    before = _claim(config, output)
    with held(output, "export"):
        return _export(config, output, files, before, notes)


def _export(config: Config, output: str, files: list[str], before: list[str], notes: list[str]) -> int:
    export, choice = EXPORTS[config.format], config.choice()
    names = [file.name for file in export.files]
    seen: set[str] = set()
    left_out: Counter[str] = Counter()
    with export_files(output, export, choice) as written:
        for file in files:
            for group in groups(_rows(file), seen, left_out):
                for name, row in export.rows(group, choice, left_out):
                    written.write(name, row)
        if not any(written.rows.values()):
            raise InputError(f"{config.input}: nothing can be exported: {_told(left_out) or 'there is no row'}")
        _record(config, output, sorted({*before, *names}), {"complete": False})  # the files are put in place next
    _remove(output, [name for name in before if name not in names])
    left_out += written.refused
    facts = {"queries": len(seen), "rows": dict(written.rows), "left_out": dict(left_out)}
    _record(config, output, names, facts | {"complete": True})
    print(f"{config.output}: {export.name} of {len(seen)} queries")
    for name, rows in written.rows.items():
        print(f"  {name}: {rows} rows")
    for reason, count in sorted(left_out.items(), key=lambda item: -item[1]):
        print(f"  left out: {count} x {reason}")
    for note in notes:
        print(f"  {note}")
    faulty = notes or any(left_out[reason] for reason in (*InputFault, SECOND, UNFIT))
    return ExitCode.DONE_WITH_ERRORS if faulty else ExitCode.DONE


def _rows(file: str) -> Iterator[Mapping[str, Any]]:
    with open_read(file) as handle:
        columns = columns_of(open_parquet(handle, file).schema_arrow, file)
        yield from (row for _, row in parquet_rows(handle, file, tuple(columns)))


def _claim(config: Config, output: str) -> list[str]:
    """Check that the folder is free, or holds this very export, or may lose another; returns the files there.

    Raises:
        InputError: it cannot be a folder.
        OutputConflictError: it holds another export and `overwrite` is false, or files of no export.
        StorageError: it cannot be written.
    """
    check_folder(config.output)
    asked = _asked(config)
    now = FolderRecord("export", asked)
    record = load_record(join(output, RECORD), _Export, config.overwrite)
    names, made = visible_names(output), (record and record.model_extra) or {}
    known: set[str] = set()
    if record is None and config.overwrite and RECORD in names:  # it is damaged
        known = {RECORD, *(file.name for export in EXPORTS.values() for file in export.files)}
    elif record and asked.keys() <= made.keys():
        settings = {name: made[name] for name in asked}
        before = FolderRecord("export", settings, finished=made.get("complete") is True)
        may_resume(config.output, before, now, config.overwrite)
        known = {RECORD, *record.files} if config.overwrite else {*names}
    check_known(config.output, "export", [name for name in names if name not in known])
    check_writable(output)
    return record.files if record else [name for name in names if name in known - {RECORD}]


def _remove(output: str, names: list[str]) -> None:
    system, root = filesystem(output)
    for name in names:
        with suppress(FileNotFoundError):
            system.rm_file(join(root, name))


def _record(config: Config, output: str, files: list[str], facts: dict[str, Any]) -> None:
    write_whole(join(output, RECORD), json.dumps(_asked(config) | {"files": files} | facts, indent=2).encode())


def _asked(config: Config) -> dict[str, Any]:
    return config.model_dump(exclude={"output", "overwrite"}) | {"input": absolute(config.input)}


def _told(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in left_out.most_common(3))
