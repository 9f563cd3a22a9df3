"""Clips that need no rendering: noise."""

import numpy as np

from irmas_dist.config.recipe import Recipe
from irmas_dist.features.clips import Clips
from irmas_dist.features.store import StoreInfo
from irmas_dist.training.data import TrainingData

HELD_OUT = 64


def noise(recipe: Recipe, count: int) -> TrainingData:
    """Return training clips of 3 s of noise, each of one instrument; the first 64 are held out too.

    Args:
        recipe: For its features and its vocabulary.
        count: Number of training clips, at least 64.
    """
    features, vocabulary = recipe.features, recipe.corpus.vocabulary
    length = int(3 * features.frames_per_second) + 1
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((count * length, features.bands), np.float32)
    clips = Clips(
        frames=(frames - 9).astype(np.float16),
        starts=np.arange(count) * length,
        lengths=np.full(count, length),
        labels=np.eye(len(vocabulary), dtype=np.float32)[np.arange(count) % len(vocabulary)],
        clip_ids=[str(index) for index in range(count)],
        parts=["training"] * count,
        groups=[str(index) for index in range(count)],
    )
    store = StoreInfo(
        settings=features, vocabulary=vocabulary, fingerprint="", manifest="", identity="",
        clips={"training": count}, frames=len(frames), shards=[],
        mean=[-9.0] * features.bands, std=[1.0] * features.bands,
    )  # fmt: skip
    return TrainingData(clips, clips.select(list(range(HELD_OUT))), store)
