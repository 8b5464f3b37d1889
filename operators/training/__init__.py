"""Training a cross-encoder: data, losses, the student, the loop and its curve."""
