"""What happens to a batch: Arrow tables and numpy in, the same out. Nothing here knows of Ray."""
