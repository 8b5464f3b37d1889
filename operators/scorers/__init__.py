"""The scorer families: one file per family, and what they share."""
