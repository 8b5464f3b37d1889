"""First-stage candidates for a corpus that has no run: BM25 by the library bm25s.

Robertson and Zaragoza (2009), "The Probabilistic Relevance Framework", in Lucene's variant (Kamphuis et al.
2020, "Which BM25 do you mean?"), with Anserini's k1 = 0.9 and b = 0.4. Words are runs of two or more word
characters, lower-case, without English stop words and without stemming: a stemmer is another package, and the
candidates must not depend on whether it is installed.
"""

import numpy as np

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.texts import Passages, Queries
from ray_rerank.operators.formats.trec_runs import RankedList, Run
from ray_rerank.operators.rejects import Reason, Reject, RejectSink

K1 = 0.9
B = 0.4
_BLOCK = 4096  # texts turned into Python strings at a time


def bm25_run(queries: Queries, passages: Passages, depth: int, rejects: RejectSink) -> Run:
    """The `depth` best passages of each query by falling score, ties in corpus order; a score of 0 is no hit.

    The index holds 8 bytes a distinct word of each passage, and while it is made, a list of its word ids.

    Args:
        rejects: receives each query without a hit.

    Raises:
        InputError: there is no word in the whole corpus.
    """
    import bm25s
    from bm25s.tokenization import Tokenized, Tokenizer

    doc_ids, texts = list(passages.row), passages.texts
    tokenizer = Tokenizer(lower=True, stopwords="english", stemmer=None)
    blocks = (text for start in range(0, len(texts), _BLOCK) for text in texts[start : start + _BLOCK].to_pylist())
    words = list(tokenizer.streaming_tokenize(blocks, allow_empty=False))
    vocabulary = tokenizer.word_to_id
    if not vocabulary:
        raise InputError("no passage holds a word that BM25 could look for")
    index = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numpy", auto_compile=False)
    index.index(Tokenized(words, vocabulary), create_empty_token=False, show_progress=False)
    del words
    asked = tokenizer.streaming_tokenize(queries.texts.values(), update_vocab=False, allow_empty=False)
    run: Run = {}
    for query_id, tokens in zip(queries.texts, asked, strict=True):
        scores = index.get_scores_from_ids(tokens) if tokens else np.zeros(0, dtype=np.float32)
        best = top(scores, depth)
        if not len(best):
            rejects.add(Reject(queries.name, 0, Reason.NO_HIT, "", query_id))
            continue
        run[query_id] = RankedList(
            [doc_ids[i] for i in best.tolist()],
            scores[best].astype(np.float64),
            np.zeros(len(best), dtype=np.int64),
        )
    return run


def top(scores: np.ndarray, depth: int) -> np.ndarray:
    """int64 indices of the `depth` highest positive scores, best first, ties by index.

    `argpartition` alone would choose among ties at the cut by chance.
    """
    hits = np.flatnonzero(scores > 0)
    if len(hits) > depth:
        least = np.partition(scores[hits], len(hits) - depth)[len(hits) - depth]
        hits = hits[scores[hits] >= least]
    order = np.lexsort((hits, -scores[hits]))
    return hits[order[:depth]]
