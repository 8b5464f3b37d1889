"""What a job that writes files of lines prints of what it left out."""

from ray_rerank.operators.rejects import FaultLog


def print_left_out(faults: FaultLog) -> None:
    """Print how many there are of each reason, and the first few."""
    for reason, count in faults.counts.items():
        print(f"left out: {count:,} x {reason}")
        for example in faults.first(reason):
            print(f"  {example}")
