"""Training data small enough to learn from in a second, and a trained model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from irmas_dist.config.augment import AugmentSettings, MixSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import IngestSettings, WorkerSettings
from irmas_dist.features import store
from irmas_dist.features.clips import Clips
from irmas_dist.features.store import StoreInfo
from irmas_dist.instruments import Vocabulary
from irmas_dist.training.data import TrainingData
from irmas_dist.training.load import load_training_data
from irmas_dist.training.local import computing_on
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.sampling import Mixtures, mixing_alone, plan_epoch
from irmas_dist.training.validation import mixture_clips

VOCABULARY = Vocabulary.of({"low": "low noise", "mid": "middle noise", "top": "high noise"})
BANDS = 12
WORKERS = WorkerSettings(count=2)


def synthetic_clips(count: int, seed: int) -> Clips:
    """Clips of 40 to 60 frames in which each instrument is loud in a third of the bands."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(40, 61, size=count)
    classes = np.arange(count) % 3
    frames = []
    for length, which in zip(lengths, classes, strict=True):
        mel = rng.normal(-9, 1, size=(length, BANDS))
        mel[:, which * 4 : which * 4 + 4] += 6
        frames.append(mel)
    return Clips(
        frames=np.concatenate(frames).astype(np.float16),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths.astype(np.int64),
        labels=np.eye(3, dtype=np.float32)[classes],
        clip_ids=[f"clip {i:03d}" for i in range(count)],
        parts=["training"] * count,
        groups=[f"group {i:03d}" for i in range(count)],
    )


CLIPS = synthetic_clips(30, seed=3)

FEATURES = LogMelSettings(n_fft=1_024, hop_length=512, bands=BANDS)


def write_store(
    place: Path,
    clips: Clips,
    name: str,
    vocabulary: Vocabulary = VOCABULARY,
    features: LogMelSettings = FEATURES,
    audio: str | None = None,
    span: str = "",
) -> str:
    """Write a feature store of clips, whose groups and audio are those of ``name``, or the audio
    that of another; with a span, clips are spans of their files."""
    fingerprint = store.settings_fingerprint(features, vocabulary)
    rows = [
        {
            "clip_id": clips.clip_ids[index],
            "md5": f"{audio or name} {clips.clip_ids[index]}{span}",
            "part": clips.parts[index], "group": f"{name} {clips.groups[index]}",
            "labels": [None if np.isnan(label) else label for label in clips.labels[index]],
            "logmel": clips.frames[clips.starts[index] :][: clips.lengths[index]].T,
        }
        for index in range(len(clips))
    ]  # fmt: skip
    for first in range(0, len(rows), 10):
        store.write_shard(str(place), rows[first : first + 10], fingerprint)
    shards = store.read_shards(str(place), store.shard_names(str(place)))
    store.write_info(str(place), shards, features, vocabulary, "")
    return str(place)


def plan(augment: AugmentSettings, seed: int = 0, frames: int = 20) -> Mixtures:
    """Two examples of each of the `CLIPS`."""
    return plan_epoch(CLIPS, BANDS, frames, 2, augment, np.random.default_rng(seed))


def load(features: str, recipe: Recipe, mode: str, pool_clips: int = 4_096) -> TrainingData:
    """Training data by one way of ingest."""
    settings = IngestSettings.model_validate({"mode": mode, "pool_clips": pool_clips})
    return load_training_data(features, recipe.validation, settings)


@pytest.fixture(scope="session")
def data() -> TrainingData:
    """Three instruments that are easy to distinguish."""
    training = synthetic_clips(48, seed=0)
    features = FEATURES
    flat = training.frames.astype(float)
    return TrainingData(
        training=training,
        validation=mixture_clips(
            synthetic_clips(24, seed=1), 36, mixing_alone(MixSettings()), features, seed=0
        ),
        store=StoreInfo(
            settings=features,
            vocabulary=VOCABULARY,
            fingerprint="",
            manifest="",
            identity="",
            clips={"training": 48},
            frames=len(flat),
            shards=[],
            mean=flat.mean(axis=0).tolist(),
            std=flat.std(axis=0).tolist(),
        ),
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute as a worker with one CPU does."""
    with computing_on(1):
        yield


@pytest.fixture
def settings() -> Recipe:
    """A small network with everything random turned on, for stores that `write_store` writes."""
    return Recipe.model_validate(
        {
            "window": {"seconds": 0.8, "hop_seconds": 0.4},
            "model": {
                "blocks": 2,
                "width": 8,
                "normalisation": "none",
                "head": "max",
                "dense": 16,
                "dropout": {"blocks": 0.25, "dense": 0.5},
            },
            "augment": {"equalise_db": 0.0, "frequency_mask": 2, "time_mask": 4},
            "corpus": {"instruments": dict(zip(VOCABULARY.codes, VOCABULARY.names, strict=True))},
            "features": FEATURES.model_dump(),
            "validation": {"share": 0.3, "mixtures": 20, "threshold_mixtures": 30},
            "tracking": {"mode": "disabled"},
            "training": {"epochs": 4, "batch_size": 8, "lr": 5e-3}
            # Not bfloat16 where a CPU has it: what is the same up to rounding would not be.
            | {"precision": "float32"},
        }
    )


@pytest.fixture(scope="session")
def trained(
    features: str, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ModelDescription, Recipe]:
    """A model trained by two workers: its directory, description and recipe."""
    from irmas_dist.training.train import train

    out = tmp_path_factory.mktemp("models")
    plain = build_recipe(
        recipe.model_dump(),
        {
            # Batch statistics and dropout differ between workers; without them the sums agree.
            "model.normalisation": "none",
            "model.dropout.blocks": 0.0,
            "model.dropout.dense": 0.0,
            "tracking.directory": str(out),
        },
        "the test",
    )
    return str(out / "m"), train(plain, features, str(out / "m"), WORKERS), plain
