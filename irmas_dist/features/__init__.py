"""Audio to log-mel spectrograms: the transform, the Ray Data pipeline, the store."""
