"""Where work runs: storage, units, commits, the score cache, Ray sessions and pipelines."""
