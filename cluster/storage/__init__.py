"""Files by URI, local or remote."""
