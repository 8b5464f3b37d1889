"""Queries, passages and judgements of one collection, from wherever they lie."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from ray_rerank.cluster.storage import StoredFile
from ray_rerank.jobs.inputs.collections import describe_file, load_qrels, queries_of, read_texts
from ray_rerank.operators.formats.qrels import Qrels
from ray_rerank.operators.formats.texts import Passages, Queries, TextLine, ids_of, passages_of
from ray_rerank.operators.rejects import RejectLog, RejectSink


@dataclass(frozen=True, slots=True)
class Texts:
    """One collection; what it holds is read anew at each call, as a stream.

    Attributes:
        queries, passages, qrels: what messages call them; no qrels where nothing is judged.
        inputs: what it is made of, to tell it from another.
        read_queries, read_passages: entries, given what is told of rows that cannot be used.
        read_qrels: the judgements.
    """

    queries: str
    passages: str
    qrels: str | None
    inputs: tuple[StoredFile, ...]
    read_queries: Callable[[RejectSink], Iterator[TextLine]]
    read_passages: Callable[[RejectSink], Iterator[TextLine]]
    read_qrels: Callable[[], Qrels]

    def load_queries(self, rejects: RejectSink) -> Queries:
        """Read queries, in order.

        Raises:
            InputError: there is none.
        """
        return queries_of(self.read_queries(rejects), self.queries, rejects)

    def load_passages(self, rejects: RejectSink, wanted: frozenset[str] | None = None) -> Passages:
        """The passages that are wanted, all where None."""
        return passages_of(self.read_passages(rejects), self.passages, rejects, wanted)

    def passage_ids(self) -> pa.Array:
        """The ids of all passages with a text; what is wrong with others is left to `load_passages` to tell."""
        return ids_of(self.read_passages(RejectLog()))

    def passage_texts(self) -> Iterator[tuple[str, str]]:
        """Ids and texts of all passages; what is wrong with others is left to `load_passages` to tell."""
        return ((entry.id, entry.text) for entry in self.read_passages(RejectLog()))


def file_texts(queries: str, passages: str, qrels: str | None) -> Texts:
    """A collection in files of its own.

    Raises:
        StorageError, InputError: one is not there, or is a folder.
    """
    return Texts(
        queries,
        passages,
        qrels,
        tuple(describe_file(path) for path in (queries, passages, qrels) if path is not None),
        lambda rejects: read_texts(queries, rejects),
        lambda rejects: read_texts(passages, rejects),
        lambda: load_qrels(str(qrels)),
    )
