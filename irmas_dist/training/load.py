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
from irmas_dist.corpus.split import held_out
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
from irmas_dist.instruments import PRESENT, Vocabulary
from irmas_dist.terminal import say
from irmas_dist.training.data import TrainingData, threshold_mixing
from irmas_dist.training.held_out import HeldOut, new_clips, sources_of
from irmas_dist.training.known_audio import KnownAudio, recordings
from irmas_dist.training.sampling import mixing_alone
from irmas_dist.training.stores import (
    ValidationStore,
    read_further,
    read_other_infos,
    read_validation,
    require_positives,
)

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
    resident = is_resident(ingest, info, *infos)
    clips = read_clips(location, TRAINING, with_frames=resident)
    validated_on = tuple[ValidationStore, ...]()
    if judges:
        aside, out, validated_on = read_validation(validate_on, judges, info.vocabulary)
        own = new_clips(clips, location, info, out)
    else:
        own, aside = _divided(clips, location, info, settings)
        out = _held_out(own, aside, location, info, settings)
    judged = out.audio
    _tell_lacking(aside, " and ".join(validate_on) or location, info.vocabulary)
    if TESTING in info.clips:
        tests = read_clips(location, TESTING, with_frames=False)
        _tell_shared(own, tests, location)
        if further:
            out |= HeldOut(audio=HeldOut.of(tests, location, info).audio)
    learnt = HeldOut.of(own, location, info).audio
    taken = [
        read_further(store, one, info.vocabulary, out, resident=resident)
        for store, one in zip(further, infos, strict=True)
    ]
    training: Clips | StreamedClips = joined([own, *(clips for clips, _, _ in taken)])
    selecting = (settings.mixtures, mixing_alone(settings.mix), info.settings, settings.seed)
    balanced = equally_frequent(aside.labels)
    if not resident:
        first = StreamedStore(location, info.identity, frozenset(own.clip_ids))
        stores = [
            replace(one, location=storage.absolute(one.location))
            for one in (first, *(one for _, one, _ in taken))
        ]
        training = StreamedClips(tuple(stores), training.labels, ingest.pool_clips)
        if not (VALIDATION in info.clips or judges):
            used = np.arange(len(aside))
            if settings.mixed:
                fitted = mixed_clips(aside.select(balanced), *threshold_mixing(settings, info))
                used = np.union1d(mixed_clips(aside, *selecting), balanced[fitted])
            aside = _with_frames(aside, used, location, info)
    mixed = settings.mixed and not judges
    if mixed and resident and further:
        aside = aside.compact()  # `joined` has copied the others' frames.
    validation = mixture_clips(aside, *selecting) if mixed else aside
    _tell_always(validation, " and ".join(validate_on) or location, info.vocabulary)
    return TrainingData(
        training,
        validation,
        info,
        tuple(data for _, _, data in taken),
        validated_on=validated_on,
        to_mix=aside.select(balanced) if mixed else None,
        settings=settings,
        known=KnownAudio(
            recordings(learnt.union(*(data.audio for _, _, data in taken))), recordings(judged)
        ),
    )


def _divided(
    clips: Clips, location: str, info: StoreInfo, settings: ValidationSettings
) -> tuple[Clips, Clips]:
    """Return the clips of a store to train on, and those to validate with."""
    if VALIDATION not in info.clips:
        try:
            out = held_out(clips.groups, clips.labels >= PRESENT, settings, info.vocabulary)
        except IrmasError as error:
            raise IrmasError(f"{location} cannot be split for validation: {error}") from error
        own, aside = clips.select(np.flatnonzero(~out)), clips.select(np.flatnonzero(out))
    elif settings.by == "source":
        raise IrmasError(
            f"{location} has validation clips of its own, so that validation.by=source holds no "
            "source out: leave it out, or index the clips without that part"
        )
    else:
        aside = read_clips(location, VALIDATION)
        # Of one file, groups say which spans belong together.
        theirs = HeldOut.of(aside, location, info)
        own = new_clips(clips, location, info, theirs, of_one_file=False)
    require_positives(aside, location)
    return own, aside


def _held_out(
    own: Clips, aside: Clips, location: str, info: StoreInfo, settings: ValidationSettings
) -> HeldOut:
    """Return what no clip to learn may share with the validation clips of the first store."""
    out = HeldOut.of(aside, location, info)
    if settings.by == "source":
        seen = set().union(*sources_of(own, info.vocabulary))
        held = set().union(*sources_of(aside, info.vocabulary))
        out |= HeldOut(sources=frozenset(held - seen))
    return out


def _tell_shared(own: Clips, tests: Clips, name: str) -> None:
    """Say how many training clips share a group with testing clips of the same store."""
    if count := int(np.isin(own.groups, tests.groups).sum()):
        say(
            f"{count:,} training clips of {name} share a group with testing clips: "
            "figures on these will be too good"
        )


def _tell_lacking(clips: Clips, name: str, vocabulary: Vocabulary) -> None:
    """Say what no validation clip is known to have."""
    lacking = [
        code
        for code, column in zip(vocabulary.codes, (clips.labels >= PRESENT).T, strict=True)
        if not column.any()
    ]
    if lacking:
        say(
            f"no validation clip of {name} is known to have {', '.join(lacking)}: the "
            "model will not decide for what it was not validated on"
        )


def _tell_always(clips: Clips, name: str, vocabulary: Vocabulary) -> None:
    """Say what is known to be absent from no validation clip, though it is known of some."""
    plays = (clips.labels >= PRESENT).any(axis=0)
    lacks = (clips.labels < PRESENT).any(axis=0)
    if always := [vocabulary.codes[column] for column in np.flatnonzero(plays & ~lacks)]:
        say(
            f"no validation clip of {name} is known to be without {', '.join(always)}: "
            "figures of these are perfect whatever the model, and their thresholds mean nothing"
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
