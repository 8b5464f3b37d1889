"""`ray-rerank queries`: training queries out of passages' own text, without a model or a click log."""

from collections import Counter

from pydantic import Field

from ray_rerank.cluster.storage import read_bytes
from ray_rerank.jobs.config import JobConfig
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.inputs.collections import load_passages, load_queries
from ray_rerank.jobs.outputs.files import OutputFile, check_output_files, is_stream, write_file
from ray_rerank.jobs.outputs.skipped import print_left_out
from ray_rerank.operators.candidates.same_text import normalised
from ray_rerank.operators.formats.line_ids import fits_columns, fits_tabs
from ray_rerank.operators.formats.qrels import qrels_lines
from ray_rerank.operators.formats.texts import Passages
from ray_rerank.operators.location import Location
from ray_rerank.operators.rejects import Reason, Reject, RejectLog


class Config(JobConfig):
    """Make pseudo-queries: questions, phrases, keywords and sentences a reader might have typed."""

    passages: Location = Field(description="TSV of id<TAB>text, CSV, JSON or Parquet; compressed or not")
    output: OutputFile = Field(description="TSV of id<TAB>query; an id is PASSAGE-FORM-VISIT")
    qrels: OutputFile | None = Field(
        None, description="also write TREC qrels: each query's own passage, as its positive"
    )
    count: int = Field(5000, ge=1, description="how many queries")
    apart_from: Location | None = Field(
        None, description="queries to be measured on: those that are alike are left out"
    )
    seed: int = Field(0, ge=0, description="of the passages' order and of every draw")


def run(config: Config) -> int:
    """Read, make, write, and say how many of which form."""
    from ray_rerank.operators.pseudo_queries.generate import pseudo_queries

    check_output_files(config)
    rejects = RejectLog()
    passages = load_passages(config.passages, rejects)
    made = pseudo_queries(_named(passages, config, rejects), config.count, config.seed)
    found = len(made)
    if config.apart_from:
        measured = {normalised(text) for text in load_queries(config.apart_from, rejects).texts.values()}
        made = [query for query in made if normalised(query.query) not in measured]
    _write(config.output, "".join(f"{query.query_id}\t{query.query}\n" for query in made))
    if config.qrels is not None:
        own = {query.query_id: {query.passage_id: 1} for query in made}
        _write(config.qrels, qrels_lines(own, config.qrels, rejects))
    forms = ", ".join(f"{many:,} {form}" for form, many in Counter(query.form for query in made).most_common())
    print(f"{len(made):,} queries in {config.output}: {forms}")
    if len(made) < found:
        print(f"left out: {found - len(made):,} that are queries of {config.apart_from}")
    if found < config.count:
        print(f"{config.count:,} were asked for: the texts of these {len(passages.row):,} passages give no more")
    if passages.empty:
        print(f"passages without a text: {passages.empty:,}")
    print_left_out(rejects)
    whole = found == config.count and not rejects.counts
    return ExitCode.DONE if whole else ExitCode.DONE_WITH_ERRORS


def _named(passages: Passages, config: Config, rejects: RejectLog) -> list[tuple[str, str]]:
    """Ids and texts of the passages whose ids can stand in the files that are asked for."""
    fits = fits_columns if config.qrels else fits_tabs
    named = []
    for doc_id, text in zip(passages.row, passages.texts.to_pylist(), strict=True):
        if fits(doc_id):
            named.append((doc_id, text))
        else:
            rejects.add(Reject(config.passages, 0, Reason.UNFIT_ID, f"doc_id {doc_id!r}", doc_id=doc_id))
    return named


def _write(path: str, content: str) -> None:
    """Write the file, or leave it as it is where it says so already: later steps know their input by its time."""
    if is_stream(path) or read_bytes(path) != content.encode():
        write_file(path, content.encode())
