"""`ray-rerank` and `python -m jobs`: the same command."""

import sys

from jobs.command import execute


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(execute(sys.argv[1:]))


if __name__ == "__main__":
    main()
