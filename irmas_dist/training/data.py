"""Training data: training clips and validation mixtures out of a feature store."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist import storage
from irmas_dist.cluster.without_ray import fits_in_memory
from irmas_dist.config.corpus import ValidationSettings
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.training import IngestSettings
from irmas_dist.corpus.manifest import TRAINING, VALIDATION
from irmas_dist.corpus.split import held_out
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import Clips, StreamedClips, clips_of, read_clips, read_rows
from irmas_dist.features.store import SHARD_SCHEMA, StoreInfo, read_info, settings_fingerprint
from irmas_dist.instruments import PRESENT


@dataclass(frozen=True)
class TrainingData:
    """What a Learner trains on and validates with; held once per node, shared by its workers.

    Attributes:
        training: Training clips without the held-out groups, in memory or in their store.
        validation: Mixtures of clips from the held-out groups, or these clips as they are.
        store: The content of ``features.json``.
    """

    training: Clips | StreamedClips
    validation: Clips
    store: StoreInfo

    @property
    def is_partial(self) -> bool:
        """Whether labels are unknown in some clips."""
        return any(bool(np.isnan(one.labels).any()) for one in (self.training, self.validation))


def open_training_data(features: str, recipe: Recipe) -> TrainingData:
    """Load the training data of a recipe from a feature store of the same settings.

    Raises:
        IrmasError: The store is unfinished, too small to be split, or was made with other
            settings.
    """
    read_matching_info(features, recipe)
    return load_training_data(features, recipe.validation, recipe.ingest)


def read_matching_info(features: str, recipe: Recipe) -> StoreInfo:
    """Read the ``features.json`` of a store of the same settings as a recipe's.

    Raises:
        IrmasError: The store is unfinished, or was made with other settings.
    """
    info = read_info(features)
    if info.fingerprint != settings_fingerprint(recipe.features, recipe.corpus.vocabulary):
        raise IrmasError(
            f"{features} was made with other feature settings or instruments than this recipe "
            "has; extract with the same --config, or train with the one of the features"
        )
    return info


def load_training_data(
    location: str, settings: ValidationSettings, ingest: IngestSettings
) -> TrainingData:
    """Read a feature store, a path or URL: its validation clips, or else split the training ones.

    Raises:
        IrmasError: The store is unfinished, or too small to be split.
    """
    # Imported here: torch takes seconds, which a refusal need not.
    from irmas_dist.training.validation import mixed_clips, mixture_clips

    info = read_info(location)
    resident = is_resident(ingest, info)
    clips = read_clips(location, TRAINING, with_frames=resident)
    of_its_own = VALIDATION in info.clips
    training: Clips | StreamedClips = clips
    if of_its_own:
        aside = read_clips(location, VALIDATION)
    else:
        try:
            out = held_out(clips.groups, clips.labels >= PRESENT, settings, info.vocabulary)
        except IrmasError as error:
            raise IrmasError(f"{location} cannot be split for validation: {error}") from error
        training = clips.select(np.flatnonzero(~out))
        aside = clips.select(np.flatnonzero(out))
    mixing = (settings.mixtures, settings.mix, info.settings, settings.seed)
    if not resident:
        training = StreamedClips(
            location=storage.absolute(location),
            clip_ids=frozenset(training.clip_ids),
            labels=training.labels,
            pool_clips=ingest.pool_clips,
        )
        if not of_its_own:
            every = np.arange(len(aside))
            used = mixed_clips(aside, *mixing) if settings.mixed else every
            aside = _with_frames(aside, used, location, info)
    return TrainingData(training, mixture_clips(aside, *mixing) if settings.mixed else aside, info)


def is_resident(ingest: IngestSettings, info: StoreInfo) -> bool:
    """Return whether the training clips are held in memory rather than streamed."""
    if ingest.mode != "auto":
        return ingest.mode == "resident"
    return fits_in_memory(
        info.frames * info.settings.bands * np.dtype(info.settings.dtype).itemsize
    )


def _with_frames(
    clips: Clips, indices: npt.NDArray[np.int64], location: str, info: StoreInfo
) -> Clips:
    """Read the spectrograms of the clips at ``indices``, which are in ascending order."""
    wanted = pa.array([clips.clip_ids[index] for index in indices])
    tables = read_rows(location, [*SHARD_SCHEMA.names, "logmel"], TRAINING)
    read = clips_of(
        [table.filter(pc.is_in(table.column("clip_id"), wanted)) for table in tables],
        info.settings,
    )
    starts = clips.starts.copy()
    starts[indices] = read.starts
    return replace(clips, frames=read.frames, starts=starts)
