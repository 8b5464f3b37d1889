"""What a stage does to the candidates of a unit."""
