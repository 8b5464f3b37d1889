"""Texts through a model: tokens, rows, batches."""
