"""What a user runs: one module a job, each one config and one `run()`."""
