"""The command line in a process of its own, without Ray: `python tests/job_without_ray.py rerank ...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conftest import without_ray

from jobs.__main__ import main

if __name__ == "__main__":
    with without_ray():
        main()
