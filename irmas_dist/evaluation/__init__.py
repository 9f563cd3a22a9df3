"""Evaluation from scores alone: aggregation of windows, decision thresholds, metrics."""
