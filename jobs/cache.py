"""Look after a score cache: what it holds, runs merged, files that are no good, scores as a table. Starts no Ray."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from ray_rerank.cluster.lease import held
from ray_rerank.cluster.parquet import parquet_bytes
from ray_rerank.cluster.score_cache.lookup import ScoreCache
from ray_rerank.cluster.score_cache.upkeep import Namespace, check, compact, hashes, merged, namespaces, sound
from ray_rerank.cluster.storage import absolute, join, write_whole
from ray_rerank.jobs.config import JobConfig
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.outputs.checks import check_apart, check_empty
from ray_rerank.jobs.outputs.files import STDOUT, JsonFile, check_output_files, write_json
from ray_rerank.jobs.scoring.input import CandidateSource, read_input
from ray_rerank.jobs.scoring.pairs import text_pairs, unit_pairs
from ray_rerank.jobs.scoring.plan import default_unit_pairs, plan_units
from ray_rerank.operators.candidates.schema import Columns
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.location import Location
from ray_rerank.operators.scorers.cached import row_keys
from ray_rerank.operators.scorers.registry import is_pairwise


class Config(JobConfig):
    """Look after the folder that `rerank --cache` fills."""

    positional: ClassVar[tuple[str, ...]] = ("action", "cache")

    action: Literal["stats", "compact", "verify", "export"] = Field(description="what to do")
    cache: Location = Field(description="folder or URI")
    scorer: str | None = Field(None, description="only this scorer: the beginning of its name in `stats`")
    output: Location | None = Field(None, description="export: folder or URI for the tables")
    candidates: Location | None = Field(None, description="export: candidate shards to join the scores to")
    columns: Columns = Columns()
    json_file: JsonFile = Field(
        None,
        alias="json",
        description="stats and verify: write JSON to this file; without a value, to standard output instead of text",
    )

    @model_validator(mode="after")
    def _export_has_an_output(self) -> "Config":
        if self.action == "export" and self.output is None:
            raise ValueError("`export` needs --output: a folder for the tables")
        if self.action != "export" and self.output is not None:
            raise ValueError("--output goes with `export`")
        if self.candidates and self.action != "export":
            raise ValueError("--candidates goes with `export`")
        return self

    def asked(self) -> CandidateSource:
        """The candidates to join to."""
        return CandidateSource(input=str(self.candidates), columns=self.columns)


def run(config: Config) -> int:
    """Do what is asked.

    Raises:
        ClusterError, InputError: there is no such cache or scorer, or its files cannot be read or written.
    """
    check_output_files(config)
    found, strangers = namespaces(absolute(config.cache))
    if not found and config.action != "verify" and not config.json_file:
        print(f"{config.cache}: the cache is empty")
        return ExitCode.DONE
    chosen = [namespace for namespace in found if namespace.name.startswith(config.scorer or "")]
    if config.scorer and not chosen:
        raise InputError(f"{config.cache}: there is no scorer {config.scorer}; `ray-rerank cache stats` lists them")
    if config.action == "stats":
        return _stats(config, chosen)
    if config.action == "verify":
        return _verify(config, chosen, strangers)
    if config.action == "compact":
        for namespace in map(sound, chosen):
            done = compact(namespace)
            print(
                f"{namespace.name}: {done.runs_before} runs of {done.entries_before} entries are now "
                f"{done.runs_after} of {done.entries_after}"
            )
            _print_bad(namespace)
        return ExitCode.DONE
    return _export(config, chosen)


def _stats(config: Config, chosen: list[Namespace]) -> int:
    told = [_facts(namespace) for namespace in chosen]
    if config.json_file:
        write_json(config.json_file, told)
    if config.json_file == STDOUT:
        return ExitCode.DONE
    for facts, namespace in zip(told, chosen, strict=True):
        kind = ", ".join(str(namespace.scorer.get(name, "?")) for name in ("kind", "precision", "max_length"))
        print(
            f"{namespace.name}  {facts['entries']:>12,} entries  {facts['runs']:>6,} runs  "
            f"{facts['bytes'] / 1e6:>10,.1f} MB  {facts['actor_seconds']:>10,.0f} s of actors' work  {kind}"
        )
        _print_bad(namespace)
    return ExitCode.DONE


def _facts(namespace: Namespace) -> dict[str, Any]:
    return {
        "scorer": namespace.name,
        "entries": sum(run.rows for run in namespace.runs),
        "runs": len(namespace.runs),
        "bytes": sum(run.file.size for run in namespace.runs),
        "actor_seconds": round(sum(run.seconds for run in namespace.runs), 1),
        "bad_files": [{"file": path, "reason": reason} for path, reason in namespace.bad],
        "identity": namespace.scorer,
    }


def _verify(config: Config, chosen: list[Namespace], strangers: list[str]) -> int:
    faults = [(path, "belongs to no scorer") for path in strangers]
    for namespace in chosen:
        faults += check(namespace)
    runs = sum(len(namespace.runs) for namespace in chosen)
    if config.json_file:
        write_json(config.json_file, [{"file": path, "reason": reason} for path, reason in faults])
    if config.json_file != STDOUT:
        for path, reason in faults:
            print(f"{path}: {reason}")
        print(f"{runs} runs read, {len(faults)} files are no good" + (": no job takes them" if faults else ""))
    return ExitCode.DONE_WITH_ERRORS if faults else ExitCode.DONE


def _export(config: Config, chosen: list[Namespace]) -> int:
    if len(chosen) != 1:
        raise InputError(
            f"{config.cache}: holds {len(chosen)} scorers that fit; choose one with --scorer: "
            + ", ".join(namespace.name for namespace in chosen)
        )
    namespace = chosen[0]
    folder = absolute(str(config.output))
    check_apart(cache=config.cache, output=str(config.output), candidates=config.candidates)
    check_empty(folder)
    with held(folder, "cache export"):
        return _write_tables(config, namespace, folder)


def _write_tables(config: Config, namespace: Namespace, folder: str) -> int:
    rows, asked = 0, 0
    reader = ScoreCache(namespace.uri, namespace.name)
    if not config.candidates:
        namespace = sound(namespace)
        _print_bad(namespace)
    tables = _joined(config, namespace, reader) if config.candidates else _hashed(namespace)
    for number, (table, of) in enumerate(tables):
        write_whole(join(folder, f"part-{number:05d}.parquet"), parquet_bytes(table))
        rows, asked = rows + table.num_rows, asked + of
    print(f"{rows:,} scores of {namespace.name} written to {config.output}")
    if rows < asked:
        print(f"{asked - rows:,} of {asked:,} candidates are not in the cache")
    for note in reader.notes:
        print(f"  {note}")
    return ExitCode.DONE_WITH_ERRORS if reader.notes or namespace.bad else ExitCode.DONE


def _hashed(namespace: Namespace) -> Iterator[tuple[pa.Table, int]]:
    for entries, _ in merged(namespace):
        table = hashes(entries)
        yield table, table.num_rows


def _joined(config: Config, namespace: Namespace, reader: ScoreCache) -> Iterator[tuple[pa.Table, int]]:
    """query_id, doc_id and score of the candidates whose pair was scored, and how many were asked for; by unit."""
    if is_pairwise(namespace.scorer):
        raise InputError("a pairwise scorer's entries are comparisons of two documents; export them without candidates")
    given = read_input(config.asked())
    for unit in plan_units(given, config.columns, default_unit_pairs(given.pairs)):
        pairs = unit_pairs(unit, given, config.columns)
        score, _ = reader.lookup(*row_keys(text_pairs(pairs)))
        joined = pairs.select(["query_id", "doc_id"]).append_column("score", pa.array(score, pa.float32()))
        yield joined.filter(pa.array(~np.isnan(score))), len(score)


def _print_bad(namespace: Namespace) -> None:
    for path, reason in namespace.bad:
        print(f"  {path}: {reason}; left alone")
