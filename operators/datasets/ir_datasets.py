"""Data sets by their ir_datasets ids, from that library's own cache; what is not there it fetches."""

from collections.abc import Iterator
from typing import Any

from ray_rerank.operators.datasets.rows import judgements_of, qrels_of
from ray_rerank.operators.errors import InputError, reason_of
from ray_rerank.operators.formats.qrels import Qrels
from ray_rerank.operators.formats.texts import TextLine, entries_of
from ray_rerank.operators.rejects import RejectSink


class IrDataset:
    """One id of ir_datasets that has queries and documents."""

    def __init__(self, name: str, dataset: Any) -> None:
        self.name = name
        self._dataset = dataset

    @property
    def is_judged(self) -> bool:
        """Whether it has judgements."""
        return bool(self._dataset.has_qrels())

    def queries(self, rejects: RejectSink) -> Iterator[TextLine]:
        """The queries, each with the text that the library takes for it."""
        return self._entries("queries", "query_id", rejects)

    def passages(self, rejects: RejectSink) -> Iterator[TextLine]:
        """The documents, each with the text that the library takes for it: a title goes before."""
        return self._entries("docs", "doc_id", rejects)

    def qrels(self) -> Qrels:
        """The judgements; of several for one document, by subtopic, the highest grade.

        Raises:
            InputError: there is none.
        """
        highest: dict[tuple[str, str], float] = {}
        named = (
            {"query-id": one.query_id, "corpus-id": one.doc_id, "score": one.relevance} for one in self._rows("qrels")
        )
        for query_id, doc_id, grade in judgements_of(enumerate(named, 1), self.name):
            highest[query_id, doc_id] = max(grade, highest.get((query_id, doc_id), grade))
        return qrels_of(((*pair, grade) for pair, grade in highest.items()), self.name)

    def _entries(self, kind: str, key: str, rejects: RejectSink) -> Iterator[TextLine]:
        named = ({"id": getattr(row, key), "text": _text(row)} for row in self._rows(kind))
        return entries_of(enumerate(named, 1), self.name, rejects)

    def _rows(self, kind: str) -> Iterator[Any]:
        from ir_datasets.util import home_path

        try:
            yield from getattr(self._dataset, f"{kind}_iter")()
        except Exception as error:  # the library, its formats and the network each raise their own
            raise InputError(
                f"{self.name}: ir_datasets cannot give its {kind}, from {home_path()} or where it fetches them: "
                f"{error.args[0] if error.args else reason_of(error)}"
            ) from None


def _text(row: Any) -> Any:
    """A document without a title has a space before its text there."""
    text = row.default_text() if hasattr(row, "default_text") else getattr(row, "text", "")
    return text.strip() if isinstance(text, str) else text


def ir_dataset(name: str) -> IrDataset | None:
    """The data set of this id; None where the library does not know it.

    Raises:
        ImportError: the library is not installed.
        InputError: it has no queries or no documents.
    """
    import ir_datasets

    try:
        dataset = ir_datasets.load(name)
    except KeyError:
        dataset = ir_datasets.Dataset()
    if dataset.has_queries() and dataset.has_docs():
        return IrDataset(name, dataset)
    parts = [other for other in ir_datasets.registry if other.startswith(f"{name}/")]
    if not parts and name not in ir_datasets.registry:
        return None
    shown = f"{', '.join(parts[:8])}{', …' if len(parts) > 8 else ''}" or "none"
    raise InputError(f"{name}: ir_datasets has no queries with documents under this id; parts of it: {shown}")
