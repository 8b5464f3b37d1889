"""What a user runs: one module or package per job, each with a `Config` and a `run()`, and what they share."""
