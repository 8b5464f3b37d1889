"""`ray-rerank` and `python -m ray_rerank.jobs`: the same command."""

import os
import sys
import traceback

from ray_rerank.cluster.stopping import stoppable, stopped
from ray_rerank.jobs.cli.streams import StandardStreams


def main() -> None:
    """Run the command line and leave with its exit code.

    Once all is said, the process ends without tearing the interpreter down: background threads of the libraries
    underneath (Ray, Arrow, torch) can abort in the teardown, and a job that is done would then end with SIGABRT.
    """
    streams, code = StandardStreams(), 1
    with stoppable():
        try:
            code = _execute()
            if fault := streams.fault():
                print(f"ray-rerank: standard output cannot be written: {fault}", file=sys.stderr)
                code = code or 2
        finally:
            os._exit(code)


def _execute() -> int:
    """Signals are heard from here on, and imports take a while."""
    try:
        from ray_rerank.jobs.cli.command import execute

        return execute(sys.argv[1:])
    except SystemExit as ended:  # --help
        return ended.code if isinstance(ended.code, int) else 0
    except BaseException:
        number = stopped()
        if number is None:
            traceback.print_exc()
            return 1
        print("ray-rerank: stopped", file=sys.stderr)
        return 128 + number


if __name__ == "__main__":
    main()
