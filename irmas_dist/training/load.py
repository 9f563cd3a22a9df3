"""Loading of training data: feature stores are read, checked against a recipe, and split."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist import storage
from irmas_dist.cluster.without_ray import fits_in_memory
from irmas_dist.config.corpus import ValidationSettings
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.training import FurtherStore, IngestSettings
from irmas_dist.corpus.manifest import TESTING, TRAINING, VALIDATION
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import (
    Clips,
    StreamedClips,
    StreamedStore,
    clips_of,
    joined,
    read_clips,
    read_rows,
)
from irmas_dist.features.store import SHARD_SCHEMA, StoreInfo, read_info
from irmas_dist.terminal import say
from irmas_dist.training.data import TrainingData, selection_mixing, threshold_mixing
from irmas_dist.training.held_out import HeldOut
from irmas_dist.training.known_audio import KnownAudio, recordings
from irmas_dist.training.set_aside import beside_stores, divided, tell_always_known
from irmas_dist.training.stores import read_further, read_other_infos

if TYPE_CHECKING:  # It imports torch, which takes seconds.
    from irmas_dist.training.initial_model import InitialModel


def open_training_data(
    features: str,
    recipe: Recipe,
    further: Sequence[FurtherStore] = (),
    start: "InitialModel | None" = None,
    validate_on: Sequence[str] = (),
) -> TrainingData:
    """Load the training data of a recipe from feature stores of the same settings.

    Args:
        features: The first store, a path or URL.
        recipe: The recipe.
        further: Stores to learn beside it.
        start: The model to start from.
        validate_on: Stores whose clips are validated on, instead of clips of the first.

    Raises:
        IrmasError: A store is unfinished, too small to be split, or was made with other
            settings, or has other instruments, see `read_other_infos`.
    """
    read_matching_info(features, recipe)
    data = load_training_data(features, recipe.validation, recipe.ingest, further, validate_on)
    pools = data.training.pools if isinstance(data.training, StreamedClips) else 1
    each = [pool.examples(recipe.training.windows_per_clip) for pool in data.stores.divided(pools)]
    own, *theirs = np.sum(each, axis=0).tolist()
    for store, count in zip(further, theirs, strict=True):
        if not count:
            raise IrmasError(
                f"--also {store.location}:{store.weight:g} gives no example in an epoch of "
                f"{own:,}: weigh it more"
            )
    if start and (known := start.known.learnt & data.known.validated):
        say(
            f"{start.name} has learnt {len(known):,} of {len(data.known.validated):,} files of "
            f"{' and '.join(validate_on) or features} that are validated on, and figures of "
            "validation and thresholds will be too good: hold out what was held out when it was "
            "trained, or validate on others"
        )
    return replace(data, start=start)


def read_matching_info(features: str, recipe: Recipe) -> StoreInfo:
    """Read the ``features.json`` of a store of the same settings as a recipe's.

    Raises:
        IrmasError: The store is unfinished, or was made with other settings.
    """
    info = read_info(features)
    if differ := info.differences(recipe.features, recipe.corpus.vocabulary):
        raise IrmasError(
            f"{features} was made with other settings than this recipe has: {differ}; extract with "
            "the same --config, or train with the one of the features"
        )
    return info


def read_matching_infos(
    features: str,
    recipe: Recipe,
    further: Sequence[FurtherStore] = (),
    validate_on: Sequence[str] = (),
) -> list[StoreInfo]:
    """Read the ``features.json`` of all stores, and return those of the stores to learn from.

    Raises:
        IrmasError: As for `open_training_data`, of what is known without the clips.
    """
    info = read_matching_info(features, recipe)
    also = read_other_infos(info, features, [one.location for one in further], "--also")
    read_other_infos(info, features, validate_on, "--validate-on")
    return [info, *also]


def load_training_data(
    location: str,
    settings: ValidationSettings,
    ingest: IngestSettings,
    further: Sequence[FurtherStore] = (),
    validate_on: Sequence[str] = (),
) -> TrainingData:
    """Read a feature store, a path or URL: its validation clips, or else split the training ones.

    With stores to ``validate_on`` it is not split. Of it, then, and of ``further`` stores always,
    all training clips are read that share nothing with validation; of further stores, none is read
    that has the audio of a testing clip of the first.

    Raises:
        IrmasError: As for `open_training_data`, but for the recipe's settings.
    """
    # Imported here: torch takes seconds, which a refusal need not.
    from irmas_dist.training.validation import equally_frequent, mixed_clips, mixture_clips

    info = read_info(location)
    infos = read_other_infos(info, location, [one.location for one in further], "--also")
    judges = read_other_infos(info, location, validate_on, "--validate-on")
    resident = is_resident(ingest, info, *infos, *judges)  # Theirs are held in memory anyway.
    clips = read_clips(location, TRAINING, with_frames=resident)
    if judges:
        split = beside_stores(clips, location, info, validate_on, judges)
    else:
        split = divided(clips, location, info, settings)
    own, aside, out = split.training, split.validation, split.out
    if TESTING in info.clips:
        tests = read_clips(location, TESTING, with_frames=False)
        _tell_shared(own, tests, location)
        if further:
            out |= HeldOut(audio=HeldOut.of(tests, location, info).audio)
    taken = [
        read_further(store, one, info.vocabulary, out, resident=resident)
        for store, one in zip(further, infos, strict=True)
    ]
    training: Clips | StreamedClips = joined([own, *(clips for clips, _, _ in taken)])
    mixed = settings.mixed and not judges
    selecting = selection_mixing(settings, info)
    balanced = equally_frequent(aside.labels)
    if not resident:
        first = StreamedStore(location, info.identity, frozenset(own.clip_ids))
        stores = tuple(
            replace(one, location=storage.absolute(one.location))
            for one in (first, *(one for _, one, _ in taken))
        )
        training = StreamedClips(stores, training.labels, ingest.pool_clips)
        if VALIDATION not in info.clips and not judges:  # They were read without frames.
            used = np.arange(len(aside))
            if mixed:
                fitted = mixed_clips(aside.select(balanced), *threshold_mixing(settings, info))
                used = np.union1d(mixed_clips(aside, *selecting), balanced[fitted])
            aside = _with_frames(aside, used, location, info)
    elif mixed and further:
        aside = aside.compact()  # `joined` has copied the others' frames.
    validation = mixture_clips(aside, *selecting) if mixed else aside
    tell_always_known(validation, " and ".join(validate_on) or location, info.vocabulary)
    learnt = HeldOut.of(own, location, info).audio.union(*(data.audio for _, _, data in taken))
    return TrainingData(
        training,
        validation,
        info,
        tuple(data for _, _, data in taken),
        validated_on=split.stores,
        to_mix=aside.select(balanced) if mixed else None,
        settings=settings,
        known=KnownAudio(recordings(learnt), recordings(split.out.audio)),
    )


def _tell_shared(own: Clips, tests: Clips, name: str) -> None:
    """Say how many training clips share a group with testing clips of the same store."""
    if count := int(np.isin(own.groups, tests.groups).sum()):
        say(
            f"{count:,} training clips of {name} share a group with testing clips: "
            "figures on these will be too good"
        )


def is_resident(ingest: IngestSettings, *infos: StoreInfo) -> bool:
    """Return whether the training clips of all stores are held in memory rather than streamed."""
    if ingest.mode != "auto":
        return ingest.mode == "resident"
    return fits_in_memory(
        sum(
            info.frames * info.settings.bands * np.dtype(info.settings.dtype).itemsize
            for info in infos
        )
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
