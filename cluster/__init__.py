"""Where work runs: storage, units, commits, actors. Nothing here knows what a score is."""
