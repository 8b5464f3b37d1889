"""`ray-rerank queries`: training queries out of passages' own text, without a model or a click log."""

from collections import Counter
from pathlib import Path

from pydantic import Field

from jobs.command import ExitCode
from jobs.config import JobConfig
from operators.errors import InputError


class Config(JobConfig):
    """Make pseudo-queries: questions, phrases, keywords and sentences a reader might have typed."""

    passages: Path = Field(description="TSV of id<TAB>text")
    output: Path = Field(description="TSV of id<TAB>query; an id is PASSAGE-FORM-VISIT")
    count: int = Field(5000, ge=1, description="how many queries")
    seed: int = Field(0, ge=0, description="of the passages' order and of every draw")


def run(config: Config) -> int:
    """Read, make, write, and say how many of which form."""
    from operators.pseudo_queries import pseudo_queries

    made = pseudo_queries(read_passages(config.passages), config.count, config.seed)
    lines = "".join(f"{query.query_id}\t{query.query}\n" for query in made)
    try:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        config.output.write_text(lines, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{config.output}: cannot be written: {error}") from None
    forms = ", ".join(f"{many:,} {form}" for form, many in Counter(query.form for query in made).most_common())
    print(f"{len(made):,} queries in {config.output}: {forms}")
    return ExitCode.DONE if len(made) == config.count else ExitCode.DONE_WITH_ERRORS


def read_passages(path: Path) -> list[tuple[str, str]]:
    """Read id<TAB>text lines; a blank text is passed over.

    Raises:
        InputError: the file cannot be read, or a line has no tab.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    passages = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line:
            continue
        passage_id, tab, text = line.rstrip("\r").partition("\t")
        if not tab or not passage_id:
            raise InputError(f"{path}, line {number}: is not id<TAB>text")
        if text.strip():
            passages.append((passage_id, text))
    return passages
