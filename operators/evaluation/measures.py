"""Evaluation measures by their ir-measures names, for one ranking, query by query."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
from ir_measures.measures.base import MeanAgg

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.qrels import Grades, highest_grade
from ray_rerank.operators.formats.trec_runs import Run

GRADED = "RR(rel=2)@10"
HIGHEST_CUTOFF = 1_000_000  # trec_eval ends the process at 0 and below, and overflows at 2^31
DEFAULT = ("nDCG@10", "RR@10", "R@100", "P@10")


@dataclass(frozen=True, slots=True)
class NamedMeasure:
    """A measure under the name that the user gave it."""

    name: str
    measure: Any

    @property
    def is_mean(self) -> bool:
        """Whether a figure over queries is the mean; counts such as NumRet are summed."""
        return isinstance(self.measure.aggregator(), MeanAgg)


@dataclass(frozen=True, slots=True)
class Measured:
    """The values of several measures over the same queries.

    Attributes:
        query_ids: every query that counts, in order.
        values: float64 of (measures, queries).
        means: each measure's figure over the queries as ir-measures aggregates it, by name.
    """

    query_ids: tuple[str, ...]
    values: np.ndarray
    means: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How rankings are measured: by which measures, over which queries."""

    grades: Grades
    measures: tuple[NamedMeasure, ...]

    def of(self, run: Run) -> Measured:
        """Measure a run; see `evaluate`."""
        return evaluate(run, self.grades, self.measures)


def default_measures(grades: Grades) -> str:
    """What is measured where nothing is asked for; RR(rel=2)@10 too where grades go beyond 1."""
    names = list(DEFAULT)
    if highest_grade(grades) > 1:
        names.insert(2, GRADED)
    return " ".join(names)


def parse_measures(text: str) -> tuple[NamedMeasure, ...]:
    """Read measure names, separated by white space or by commas outside brackets: `nDCG@10 RR(rel=2)@10`.

    Raises:
        InputError: a name is unknown (with those near it), a parameter does not belong to it, nothing that is
            installed can compute it, or there is no name.
    """
    names = [name for name in re.split(r"[\s,]+(?![^({\[]*[)}\]])", text.strip()) if name]
    if not names:
        raise InputError("no measure is named; try nDCG@10 RR@10")
    return tuple(NamedMeasure(" ".join(name.split()), _measure(name)) for name in dict.fromkeys(names))


def evaluate(run: Run, grades: Grades, measures: Sequence[NamedMeasure]) -> Measured:
    """Measure a run on every query of `grades`; one that the run lacks counts as ir-measures has it, mostly 0.

    The order of each list is the ranking: ir-measures is handed scores that fall strictly with the rank, for
    it would break ties by doc_id. Ids are handed over as numbers: some of its providers write them to files
    split by white space, and trec_eval ends a string at a NUL.

    Args:
        run: of any queries; those without judgements do not count.
        grades: of the queries that count.

    Raises:
        InputError: ir-measures cannot compute a measure on these judgements.
    """
    documents: dict[str, str] = {}

    def document(doc_id: str) -> str:
        return documents.setdefault(doc_id, f"d{len(documents)}")

    judged: dict[str, dict[str, int]] = {}
    scored: dict[str, dict[str, float]] = {}
    for row, (query_id, by_document) in enumerate(grades.items()):
        judged[str(row)] = {document(doc_id): grade for doc_id, grade in by_document.items()}
        if query_id in run and run[query_id].doc_ids:
            places = enumerate(map(document, run[query_id].doc_ids))
            scored[str(row)] = {name: float(-place) for place, name in places}
    kinds = list(dict.fromkeys(named.measure for named in measures))
    column = {measure: index for index, measure in enumerate(kinds)}
    values = np.asarray([[kind.DEFAULT] * len(grades) for kind in kinds], dtype=np.float64)
    try:
        found = ir_measures.evaluator(kinds, judged).calc(scored)
    except (ValueError, RuntimeError, AssertionError, TypeError, KeyError) as error:
        raise InputError(f"{', '.join(map(str, kinds))} cannot be computed: {error}") from None
    for metric in found.per_query:
        values[column[metric.measure], int(metric.query_id)] = metric.value
    return Measured(
        tuple(grades),
        values[[column[named.measure] for named in measures]],
        {named.name: float(found.aggregated[named.measure]) for named in measures},
    )


def _measure(name: str) -> Any:
    try:
        measure = ir_measures.parse_measure(name)
    except NameError:
        known = sorted(ir_measures.measures.registry)
        bare = re.split(r"[@(]", name)[0]
        folded = {other.lower(): other for other in known}
        near = [folded[match] for match in difflib.get_close_matches(bare.lower(), folded, n=4, cutoff=0.5)]
        hint = f"near it: {', '.join(near)}; " if near else ""
        raise InputError(f"{name!r} is no measure of ir-measures; {hint}all: {', '.join(known)}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{name!r} cannot be read as a measure, such as RR(rel=2)@10: {error}") from None
    cutoff = measure.params.get("cutoff", 1)
    if isinstance(cutoff, int) and not 1 <= cutoff <= HIGHEST_CUTOFF:
        raise InputError(f"{name!r}: the cutoff is {cutoff}; it goes from 1 to {HIGHEST_CUTOFF:,}")
    try:
        measure.validate_params()
        ir_measures.evaluator([measure], {"query": {"document": 1}})
    except (ValueError, RuntimeError, AssertionError, TypeError, KeyError) as error:
        raise InputError(f"{name!r} cannot be computed: {error}") from None
    return measure
