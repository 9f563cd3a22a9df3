"""The whole pipeline on a small rendered corpus, beside a baseline."""
