"""A checkpoint on this machine: found, fetched, checked, loaded."""
