"""The command line in a process of its own, without Ray: `python tests/support/inline_cli.py rerank ...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ray_rerank.jobs.__main__ import main
from support.command import with_executor

if __name__ == "__main__":
    sys.argv[1:] = with_executor(sys.argv[1:])
    main()
