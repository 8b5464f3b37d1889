"""Everything that needs no cluster: formats, scorers, mining, training, evaluation. Nothing here imports Ray."""
