"""Pages, charts and model cards."""
