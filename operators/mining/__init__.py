"""Hard negatives: where they come from, which are drawn, and the guard against false ones."""
