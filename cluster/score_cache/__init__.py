"""Scores kept by (query hash, document hash) on any storage."""
