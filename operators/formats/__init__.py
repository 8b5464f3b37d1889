"""One file per file format: its reader and its writer."""
