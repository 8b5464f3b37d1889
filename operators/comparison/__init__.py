"""A comparison of scorers: its schema, its figures, its timing."""
