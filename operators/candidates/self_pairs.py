"""Documents that are their own query, as ArguAna, Quora and CQADupStack have them: by id, by text, or both."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_rerank.operators.formats.trec_runs import RankedList, Run

DropSelf = Literal["id", "text", "both", "off"]

KNOWN = ("arguana", "quora", "cqadupstack")
"""Collections whose queries are documents too; BEIR's figures leave out the document with the query's id."""

_BLOCK = 4096
_DEEP = 3  # cqadupstack/android/queries.jsonl

Own = Mapping[str, frozenset[str]]
"""By query_id, the documents that are the query itself."""


def chosen(asked: DropSelf | None, *names: str | None) -> DropSelf:
    """What is asked for; left open, by id where a path or a name says that the collection is one of KNOWN."""
    words = (re.split("[^a-z0-9]+", part) for name in names if name for part in _parts(name))
    known = any(word.startswith(KNOWN) for own in words for word in own)
    return asked or ("id" if known else "off")


def own_documents(queries: Mapping[str, str], rule: DropSelf, passages: Iterable[tuple[str, str]]) -> Own:
    """Each query's own documents; texts are the same that differ in white space alone.

    Args:
        passages: (doc_id, text) of all; not looked at where ids alone decide.
    """
    by_id = rule in {"id", "both"}
    own = {query_id: {query_id} if by_id else set() for query_id in queries}
    if rule in {"text", "both"}:
        of_text = defaultdict(list)
        for query_id, query in queries.items():
            of_text[_plain(query)].append(query_id)
        for doc_id, text in passages:
            for query_id in of_text.get(_plain(text), ()):
                own[query_id].add(doc_id)
    return {query_id: frozenset(found) for query_id, found in own.items() if found}


def named_texts(doc_ids: Sequence[str], texts: pa.Array) -> Iterator[tuple[str, str]]:
    """(doc_id, text) of a corpus in Arrow memory, a few at a time as Python strings."""
    for start in range(0, len(texts), _BLOCK):
        yield from zip(doc_ids[start : start + _BLOCK], texts[start : start + _BLOCK].to_pylist(), strict=True)


def without_own(run: Run, own: Own) -> tuple[Run, int]:
    """The run without each query's own documents, and how many these were; a list may come out empty."""
    kept = {query_id: _without(ranked, own.get(query_id, frozenset())) for query_id, ranked in run.items()}
    return kept, sum(len(run[query_id].doc_ids) - len(ranked.doc_ids) for query_id, ranked in kept.items())


def most(own: Own) -> int:
    """The most documents of its own that a query has: so many more are asked for, that N are left."""
    return max(map(len, own.values()), default=0)


def other_pairs(pairs: pa.Table, rule: DropSelf) -> pa.Table:
    """The rows of flat pairs (`ray_rerank.operators.candidates.flat_pairs`) whose document is not the query."""
    same = np.zeros(pairs.num_rows, dtype=bool)
    if rule in {"id", "both"}:
        same |= pc.equal(pairs["query_id"], pairs["doc_id"]).to_numpy()
    if rule in {"text", "both"}:
        texts = zip(pairs["query"].to_pylist(), pairs["text"].to_pylist(), strict=True)
        same |= np.fromiter((_plain(query) == _plain(text) for query, text in texts), bool, pairs.num_rows)
    return pairs.filter(pa.array(~same))


def told(dropped: int, rule: DropSelf, asked: DropSelf | None) -> str:
    """A note on what was dropped, and how to keep it."""
    how = {"id": "by id", "text": "by text", "both": "by id or text"}[rule]
    known = "" if asked else "; the collection is known for them, and --drop-self off keeps them"
    return f"{dropped:,} pairs of a query and itself ({how}) are dropped{known}"


def _plain(text: str) -> str:
    """But for white space: in Quora a question in other case is another document, and judged as one."""
    return " ".join(text.split())


def _parts(name: str) -> list[str]:
    return re.split(r"[/\\:]+", name.lower().rstrip("/\\"))[-_DEEP:]


def _without(ranked: RankedList, own: frozenset[str]) -> RankedList:
    at = [place for place, doc_id in enumerate(ranked.doc_ids) if doc_id not in own]
    if len(at) == len(ranked.doc_ids):
        return ranked
    return RankedList([ranked.doc_ids[place] for place in at], ranked.scores[at], ranked.lines[at])
