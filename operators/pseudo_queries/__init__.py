"""Training queries made from the text of passages, without a model."""
