"""First-stage retrieval over a corpus: BM25 and dense."""
