"""Data sets by their ir_datasets ids, from that library's own cache; what is not there it fetches."""

from collections.abc import Iterator
from typing import Any

from operators.collections import Entry
from operators.errors import InputError, reason_of
from operators.judgements import Qrels


class IrDataset:
    """One id of ir_datasets that has queries and documents."""

    def __init__(self, name: str, dataset: Any) -> None:
        self.name = name
        self._dataset = dataset

    @property
    def is_judged(self) -> bool:
        """Whether it has judgements."""
        return bool(self._dataset.has_qrels())

    def queries(self) -> Iterator[Entry]:
        """The queries, each with the text that the library takes for it."""
        return self._entries("queries", "query_id")

    def passages(self) -> Iterator[Entry]:
        """The documents, each with the text that the library takes for it: a title goes before."""
        return self._entries("docs", "doc_id")

    def qrels(self) -> Qrels:
        """The judgements; of several for one document, by subtopic, the highest grade.

        Raises:
            InputError: there is none.
        """
        found: Qrels = {}
        for one in self._rows("qrels"):
            grades = found.setdefault(one.query_id, {})
            grades[one.doc_id] = max(grades.get(one.doc_id, one.relevance), one.relevance)
        if not found:
            raise InputError(f"{self.name}: holds no judgement")
        return found

    def _entries(self, kind: str, key: str) -> Iterator[Entry]:
        for number, row in enumerate(self._rows(kind), 1):
            text = row.default_text() if hasattr(row, "default_text") else row.text
            yield Entry(number, getattr(row, key), text.strip())

    def _rows(self, kind: str) -> Iterator[Any]:
        from ir_datasets.util import home_path

        try:
            yield from getattr(self._dataset, f"{kind}_iter")()
        except Exception as error:  # the library, its formats and the network each raise their own
            raise InputError(
                f"{self.name}: ir_datasets cannot give its {kind}, from {home_path()} or where it fetches them: "
                f"{error.args[0] if error.args else reason_of(error)}"
            ) from None


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
