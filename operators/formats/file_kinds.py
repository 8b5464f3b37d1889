"""Files that are given for files of another kind: what their lines look like."""

from collections import Counter
from collections.abc import Iterable, Sequence

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.cells import BLANKS, ITERATION, is_number, is_text, shown

TREC_RUN = "a TREC run (query_id Q0 doc_id rank score tag)"
TREC_QRELS = "TREC qrels (query_id 0 doc_id grade)"


def what_they_are(texts: Iterable[str], apart_from: str = "") -> str:
    """What lines of another kind look like, and what reads them; empty where that is not known.

    Args:
        apart_from: names the kinds that are asked for.
    """
    tabbed = [text.split("\t") for text in texts]
    blank = [BLANKS.split("\t".join(row).strip(" \t")) for row in tabbed]
    shapes = {
        "MS MARCO's documents (docid, url, title, body); write docid and text, or JSONL": (
            len(row) == 4 and "://" in row[1] for row in tabbed
        ),
        "MS MARCO's top-1000 (qid, pid, query, passage), which `prepare --pairs` reads": (
            len(row) == 4 and list(map(is_text, row[:3])) == [False, False, True] for row in tabbed
        ),
        "triples (query, positive, negative); `train` reads a row for each pair, under the header "
        "query<TAB>document<TAB>label": (len(row) == 3 and all(map(is_text, row)) for row in tabbed),
        TREC_RUN: (len(row) == 6 and row[1] in ITERATION for row in blank),
        TREC_QRELS: (len(row) == 4 and row[1] in ITERATION for row in blank),
        "texts (id<TAB>text)": (len(row) == 2 and not is_text(row[0]) and is_text(row[1]) for row in tabbed),
    }
    found = (shape for shape, rows in shapes.items() if shape not in apart_from and 2 * sum(rows) > len(tabbed))
    shape = next(found, "")
    return shape and f"it looks like {shape}"


def check_texts(rows: Sequence[tuple[int, Sequence[str]]], name: str) -> None:
    """Refuse rows without a header that are no id and text, though each has a first column and another.

    Args:
        rows: the first of a file, with the numbers of their lines.

    Raises:
        InputError: most have the same three columns or more, or a text where the id should be.
    """
    if not rows:
        return
    texts = ["\t".join(row) for _, row in rows]
    (columns, many), *_ = Counter(text.rstrip("\t").count("\t") + 1 for text in texts).most_common(1)
    where = f"{name}, line {rows[0][0]}"
    if columns > 2 and 2 * many > len(rows):
        hint = what_they_are(texts) or "leave an id and a text, or name the columns in JSONL"
        raise InputError(f"{where}: {columns} columns ({shown(texts[0])}), not id<TAB>text; {hint}")
    numbers = sum(len(row) == 2 and is_number(row[1]) for _, row in rows)
    if 2 * numbers > len(rows):
        raise InputError(f"{where}: column 2 should be the text and holds a number ({shown(texts[0])})")
    turned = sum(len(row) == 2 and is_text(row[0]) and not is_text(row[1]) for _, row in rows)
    if 2 * turned > len(rows):
        raise InputError(
            f"{where}: column 1 should be the id and holds a text ({shown(texts[0])}); put the id first, or name the "
            "columns in JSONL"
        )
