"""Rankings and judgements as TREC files, for tools that read nothing else."""

import pyarrow as pa

from ray_rerank.operators.formats.line_ids import fits_columns
from ray_rerank.operators.formats.qrels import Qrels
from ray_rerank.operators.rejects import Fault, FaultSink, Reason


def run_lines(ranking: pa.Table, name: str, faults: FaultSink, tag: str = "ray-rerank") -> str:
    """Lines of `query_id Q0 doc_id rank score tag`.

    trec_eval orders by score and ignores rank, and scores of different stages do not compare; so the score
    column counts down from the length of the list to 1. The raw logits stay in the Parquet files.

    Args:
        ranking: rows of `query_id, ranking`, as `ray_rerank.operators.ranking.rerank.to_ranking` writes them.
        name: what messages call the run.
        faults: is told of a document whose line would be read as another or as none; the others keep their ranks.
        tag: the run's name.
    """
    lines = []
    for row in ranking.select(["query_id", "ranking"]).to_pylist():
        query_id, depth = row["query_id"], len(row["ranking"])
        for candidate in row["ranking"]:
            doc_id, rank = candidate["doc_id"], candidate["rank"]
            if fits_columns(query_id, doc_id):
                lines.append(f"{query_id} Q0 {doc_id} {rank} {depth - rank + 1} {tag}\n")
            else:
                faults.add(_unfit(name, query_id, doc_id))
    return "".join(lines)


def qrels_lines(qrels: Qrels, name: str, faults: FaultSink) -> str:
    """Lines of `query_id 0 doc_id grade`; `faults` is told of those that would be read as others or as none."""
    lines = []
    for query_id, grades in qrels.items():
        for doc_id, grade in grades.items():
            if fits_columns(query_id, doc_id):
                lines.append(f"{query_id} 0 {doc_id} {grade}\n")
            else:
                faults.add(_unfit(name, query_id, doc_id))
    return "".join(lines)


def _unfit(name: str, query_id: str, doc_id: str) -> Fault:
    return Fault(name, 0, Reason.UNFIT_ID, f"query_id {query_id!r}, doc_id {doc_id!r}", query_id, doc_id)
