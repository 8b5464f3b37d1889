"""`ray-rerank` and `python -m jobs`: the same command."""

import os
import sys

from jobs.command import execute


def main() -> None:
    """Run the command line and leave with its exit code.

    Once all is said, the process ends without tearing the interpreter down: background threads of the libraries
    underneath (Ray, Arrow, torch) can abort in the teardown, and a job that is done would then end with SIGABRT.
    """
    code = execute(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
