"""Distributed training and hyperparameter search for instrument recognition in music."""

__version__ = "0.1.0"
