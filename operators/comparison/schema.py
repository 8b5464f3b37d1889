"""What a comparison of scorers found: the content of comparison.json."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FIRST_STAGE = "first stage"
"""The name of the row of the candidates as they came."""

Interval = tuple[float, float]


class Record(BaseModel):
    """A frozen part of comparison.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(Record):
    """A scorer's figure less the baseline's, over the same queries."""

    value: float
    interval: Interval | None = Field(description="95 %, paired bootstrap over queries; null for a sum")
    p: float | None = Field(description="paired randomisation test, two-sided; null for a sum")
    p_holm: float | None = Field(description="p by Holm's correction over the scorers of this measure")
    won: int = Field(description="queries where the scorer is better")
    tied: int
    lost: int


class Figure(Record):
    """One measure of one ranking."""

    value: float
    interval: Interval | None = Field(description="95 %, bootstrap over queries; null for a sum such as NumRet")
    difference: Difference | None = Field(description="to the baseline; null for the baseline, or where it failed")


class Size(Record):
    """Of the weights, over all models of a cascade."""

    megabytes: float = Field(description="safetensors files, 10^6 bytes, in the format they were saved in")
    million_parameters: float


class Cost(Record):
    """What a scorer took, on one process, warm, without a cache; medians over rounds."""

    latency_ms: float = Field(description="to re-rank one query's candidates: the median over queries")
    latency_p95_ms: float = Field(description="the 95th percentile over queries")
    latency_ratio: float | None = Field(description="latency over the baseline's, round by round; below 1 is faster")
    pairs_per_second: float = Field(description="candidates a second, all queries of the sample at once")
    speed_ratio: float | None = Field(description="pairs_per_second over the baseline's; above 1 is faster")
    speed_ratio_range: Interval | None = Field(description="lowest and highest of the rounds")
    per_million_pairs: float | None = Field(description="price an hour / (pairs/s x 3600) x 10^6; null without a price")
    precision: tuple[str, ...] = Field(description="really used, by stage: fp32, bf16 or fp16")
    threads: int = Field(description="CPU threads of torch")


class ComparisonRow(Record):
    """A row of the comparison."""

    name: str
    kind: str = Field(description="family of the scorer, `cascade`, or `first stage`")
    stages: tuple[dict[str, Any], ...] = Field(description="scorer, keep and fusion of each stage, as in a job file")
    ranking: str | None = Field(description="folder of its ranking")
    error: str | None = Field(None, description="why there are no figures")
    notes: tuple[str, ...] = Field((), description="what was left out of its ranking or of its timing")
    quality: dict[str, Figure] = Field({}, description="by measure")
    size: Size | None = None
    cost: Cost | None = None
    on_front: bool = Field(False, description="of those timed, no other is at least as fast and as good, and better")


class Timing(Record):
    """How costs were measured."""

    queries: int
    documents: int = Field(description="candidates of a query: the median of the sample")
    pairs: int = Field(description="candidates of the sample in all")
    rounds: int = Field(description="times that each scorer went over the sample, in turn with the others")
    hardware: tuple[str, ...]
    price_per_hour: float | None


class Comparison(Record):
    """The whole of comparison.json."""

    format: Literal[1] = 1
    candidates: str
    qrels: str
    queries: int = Field(description="that the figures are over")
    measures: tuple[str, ...]
    front_measure: str | None = Field(description="the measure that the front and the picture are of")
    baseline: str
    seed: int
    timing: Timing | None
    notes: tuple[str, ...]
    scorers: tuple[ComparisonRow, ...]
