"""What is to be learned and from what: held once per node, shared by all who train there."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist import storage
from irmas_dist.config.corpus import ValidationSettings
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.training import IngestSettings
from irmas_dist.corpus.manifest import TRAINING
from irmas_dist.corpus.split import held_out
from irmas_dist.errors import IrmasError
from irmas_dist.features import store
from irmas_dist.features.clips import (
    Clips,
    StreamedClips,
    clips_of,
    read_clips,
    read_rows,
    without_frames,
)
from irmas_dist.features.store import SHARD_SCHEMA, StoreInfo, read_info
from irmas_dist.training.validation import mixed_clips, mixture_clips


@dataclass(frozen=True)
class TrainingData:
    """Clips to learn from, clips to be judged by, and what is known of both.

    Attributes:
        training: Training clips without the held-out groups, in memory or in their store.
        validation: Mixtures of clips from the held-out groups.
        store: What ``features.json`` says.
    """

    training: Clips | StreamedClips
    validation: Clips
    store: StoreInfo


def load_training_data(
    location: str, settings: ValidationSettings, ingest: IngestSettings
) -> TrainingData:
    """Read the training part of a feature store and split it.

    Args:
        location: Path or URL of the store.
        settings: What is held out, and how it is mixed.
        ingest: Whether training clips are read now, or in every epoch.

    Raises:
        IrmasError: The store is not finished, or too small to be split.
    """
    info = read_info(location)
    mode = ingest.mode
    if mode == "auto":
        from irmas_dist.training.streaming import fits_in_memory

        mode = "resident" if fits_in_memory(info) else "streaming"
    split = _split_in_memory if mode == "resident" else _split_in_store
    training, aside = split(location, info, settings, ingest)
    return TrainingData(
        training=training,
        validation=mixture_clips(
            aside, settings.mixtures, settings.mix, info.settings, settings.seed
        ),
        store=info,
    )


def _split_in_memory(
    location: str, info: StoreInfo, settings: ValidationSettings, ingest: IngestSettings
) -> tuple[Clips | StreamedClips, Clips]:
    clips = read_clips(location, TRAINING)
    out = _held_out(location, clips.groups, clips.labels, settings, info)
    return clips.select(np.flatnonzero(~out)), clips.select(np.flatnonzero(out))


def _split_in_store(
    location: str, info: StoreInfo, settings: ValidationSettings, ingest: IngestSettings
) -> tuple[Clips | StreamedClips, Clips]:
    """Split without reading more spectrograms than those that validation mixes."""
    about = pa.concat_tables(read_rows(location, SHARD_SCHEMA.names, TRAINING)).sort_by("clip_id")
    if not about.num_rows:
        raise IrmasError(f"{location} holds no {TRAINING} clips: its manifest had none of use")
    labels = np.array(about.column("labels").to_pylist(), np.uint8)
    out = _held_out(location, about.column("group").to_pylist(), labels, settings, info)
    ids = about.column("clip_id")
    aside = without_frames(about.filter(pa.array(out)), info.settings)
    mixed = mixed_clips(aside, settings.mixtures, settings.mix, info.settings, settings.seed)
    wanted = pa.array([aside.clip_ids[index] for index in mixed])
    read = clips_of(
        [
            table.filter(pc.is_in(table.column("clip_id"), wanted))
            for table in read_rows(location, [*SHARD_SCHEMA.names, "logmel"], TRAINING)
        ],
        info.settings,
    )
    aside.starts[mixed] = read.starts
    training = StreamedClips(
        location=storage.absolute(location),
        clip_ids=frozenset(ids.filter(pa.array(~out)).to_pylist()),
        labels=labels[~out],
        features=info.settings,
        pool_clips=ingest.pool_clips,
    )
    return training, replace(aside, frames=read.frames)


def _held_out(
    location: str,
    groups: list[str],
    labels: npt.NDArray[np.uint8],
    settings: ValidationSettings,
    info: StoreInfo,
) -> npt.NDArray[np.bool_]:
    try:
        return held_out(groups, labels, settings, info.vocabulary)
    except IrmasError as error:
        raise IrmasError(f"{location} cannot be split for validation: {error}") from error


def open_training_data(features: str, recipe: Recipe) -> TrainingData:
    """Load a feature store for training, once it is sure that the recipe goes with it.

    Raises:
        IrmasError: There is no finished store, or it was made with other settings.
    """
    info = store.read_info(features)
    if info.fingerprint != store.fingerprint(recipe.features, recipe.corpus.vocabulary):
        raise IrmasError(
            f"{features} was made with other feature settings or instruments than this recipe "
            "has; extract with the same --config, or train with the one of the features"
        )
    return load_training_data(features, recipe.validation, recipe.ingest)
