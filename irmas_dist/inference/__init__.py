"""Inference with a trained model: of samples, of files, of a feature store."""
