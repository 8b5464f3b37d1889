"""No leakage: queries that are trained on are not those that are measured on, by id or by text."""

from collections.abc import Iterable
from dataclasses import dataclass

from ray_rerank.operators.candidates.same_text import normalised
from ray_rerank.operators.errors import InputError

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Query:
    """A query as it is compared; `query_id` is None where it has none."""

    query_id: str | None
    text: str


def refuse_overlap(
    training: Iterable[Query], evaluation: Iterable[Query], training_name: str, evaluation_name: str
) -> None:
    """Check that no query stands on both sides.

    Raises:
        InputError: one does, by id or by normalised text; the message names the first few.
    """
    ids: set[str] = set()
    texts: set[str] = set()
    for query in training:
        texts.add(normalised(query.text))
        if query.query_id is not None:
            ids.add(query.query_id)
    found: dict[str, None] = {}
    for query in evaluation:
        if query.query_id is not None and query.query_id in ids:
            found[f"id {query.query_id!r} ({query.text!r})"] = None
        elif normalised(query.text) in texts:
            found[f"text {query.text!r}"] = None
    if found:
        first = ", ".join(list(found)[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise InputError(
            f"{len(found)} queries of {evaluation_name} are trained on in {training_name}: {first}{more}; leave them "
            "out of the training input (if only the ids are alike, rename one side's)"
        )
