"""Ids in files of lines, whose formats have no escape: what a reader would split, trim or end there is not written."""

from ray_rerank.operators.rejects import Reason, Reject

_MARK = "\ufeff"  # at the beginning of a file it is no part of the first id


def fits_columns(*ids: str) -> bool:
    """Whether each is one column of a TREC line, for readers that split at any white space or end a string at NUL."""
    return all(name.split() == [name] and "\0" not in name and not name.startswith(_MARK) for name in ids)


def fits_tabs(*ids: str) -> bool:
    """Whether each is one column of a TSV line, also for readers that trim columns or read quoted ones."""
    return all(
        name.strip() == name
        and name.splitlines() == [name]
        and not any(sign in name for sign in "\t\0")
        and not name.startswith((_MARK, '"'))
        for name in ids
    )


def unfit(name: str, query_id: str, doc_id: str) -> Reject:
    return Reject(name, 0, Reason.UNFIT_ID, f"query_id {query_id!r}, doc_id {doc_id!r}", query_id, doc_id)
