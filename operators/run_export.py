"""A ranking as a TREC run, for tools that read nothing else."""

import pyarrow as pa


def run_lines(ranking: pa.Table, tag: str = "ray-rerank") -> str:
    """Lines of `query_id Q0 doc_id rank score tag`.

    trec_eval orders by score and ignores rank, and scores of different stages do not compare; so the score
    column counts down from the length of the list to 1. The raw logits stay in the Parquet files.

    Args:
        ranking: rows of `query_id, ranking`, as `operators.ranking.to_ranking` writes them.
        tag: the run's name.
    """
    lines = []
    for row in ranking.select(["query_id", "ranking"]).to_pylist():
        depth = len(row["ranking"])
        for candidate in row["ranking"]:
            rank = candidate["rank"]
            lines.append(f"{row['query_id']} Q0 {candidate['doc_id']} {rank} {depth - rank + 1} {tag}\n")
    return "".join(lines)
