"""From scores alone: aggregation over windows, decision thresholds, metrics, reports."""
