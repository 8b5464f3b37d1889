"""The central table: queries with their candidates, from every shape that people have into shards."""
