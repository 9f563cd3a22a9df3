"""Using a trained model: on samples, on files, on a feature store."""
