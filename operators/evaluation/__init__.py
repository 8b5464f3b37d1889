"""Evaluation measures, confidence intervals and significance tests."""
