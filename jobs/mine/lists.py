"""Each source's ranked list for each query, in rows of the corpus."""

import numpy as np
import pyarrow as pa

from ray_rerank.jobs.inputs.collections import load_run
from ray_rerank.jobs.mine.corpus import Corpus
from ray_rerank.jobs.mine.vectors import VectorStore, embed
from ray_rerank.operators.candidates.join import known_queries
from ray_rerank.operators.formats.texts import Queries
from ray_rerank.operators.formats.trec_runs import Run
from ray_rerank.operators.mining.negatives import RankedRows
from ray_rerank.operators.mining.sources import BiEncoderSource, BM25Source, RunSource, Source
from ray_rerank.operators.rejects import Reason, Reject, RejectLog, Report
from ray_rerank.operators.retrieval.bm25 import bm25_run
from ray_rerank.operators.retrieval.dense import check_similarity, nearest


def ranked_lists(
    source: Source, queries: Queries, corpus: Corpus, vectors: VectorStore, report: Report
) -> dict[str, RankedRows]:
    """The source's list of each query that has one; random ones have none.

    Args:
        vectors: of a bi-encoder.

    Raises:
        UserError, ClusterError: the run, the encoder or the storage cannot be used.
    """
    if isinstance(source, BM25Source):
        run = bm25_run(queries, corpus.passages, source.ranks[1], report.rejects)
        return _rows_of(run, corpus, "", RejectLog())
    if isinstance(source, RunSource):
        run, count = load_run(source.path, report), len(queries.texts)
        asked = {one: run[one] for one in queries.texts if one in run} or run
        known = known_queries(asked, source.path, queries, source.ranks[1], report.rejects)
        if len(known) < count:
            report.notes.append(f"{count - len(known)} of {count} queries are not in {source.path}")
        return _rows_of(known, corpus, source.path, report.rejects, source.ranks[0])
    if isinstance(source, BiEncoderSource):
        check_similarity(source.encoder.similarity)
        documents = embed(corpus.passages.texts, "document", source.encoder, vectors)
        texts = pa.array(list(queries.texts.values()), pa.large_string())
        wanted = np.concatenate(list(embed(texts, "query", source.encoder, vectors).blocks()))
        rows, scores = nearest(wanted, documents.blocks(), source.ranks[1], documents.similarity)
        return {one: RankedRows(*pair) for one, *pair in zip(queries.texts, rows, scores, strict=True)}
    return {}


def _rows_of(run: Run, corpus: Corpus, path: str, rejects: RejectLog, first: int = 1) -> dict[str, RankedRows]:
    """A run by rows of the corpus; a document without a text, from rank `first` on, is a reject, and the others keep
    their ranks."""
    lists = {}
    for query_id, ranked in run.items():
        rows = np.array([corpus.passages.row.get(doc_id, -1) for doc_id in ranked.doc_ids], np.int64)
        for at in (np.flatnonzero(rows[first - 1 :] < 0) + first - 1).tolist():
            doc_id, line = ranked.doc_ids[at], int(ranked.lines[at])
            rejects.add(Reject(path, line, Reason.UNKNOWN_DOC, "the passages have no text for it", query_id, doc_id))
        lists[query_id] = RankedRows(rows, ranked.scores.astype(np.float32))
    return lists
