"""A record of data for tests that ask nothing of it."""

from irmas_dist.training.records import DataRecord

DATA = DataRecord(manifest="0123", features="4567", store="89ab", training_clips=60)
