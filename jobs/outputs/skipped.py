"""What a job that writes files of lines prints of what it left out."""

from ray_rerank.operators.rejects import RejectLog


def print_left_out(rejects: RejectLog) -> None:
    """Print how many there are of each reason, and the first few."""
    for reason, count in rejects.counts.items():
        print(f"left out: {count:,} x {reason}")
        for example in rejects.first(reason):
            print(f"  {example}")
