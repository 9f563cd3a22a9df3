"""Training data: training clips and validation mixtures out of feature stores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist import storage
from irmas_dist.cluster.without_ray import fits_in_memory
from irmas_dist.config.augment import AugmentSettings
from irmas_dist.config.corpus import ValidationSettings
from irmas_dist.config.features import LogMelSettings
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
from irmas_dist.terminal import escape, say
from irmas_dist.training.sampling import StoreWeights, mixing_alone
from irmas_dist.training.stores import (
    FurtherData,
    HeldOut,
    ValidationStore,
    new_clips,
    read_further,
    read_other_infos,
    read_validation,
    require_positives,
    sources_of,
)

if TYPE_CHECKING:  # It imports torch, which takes seconds.
    from irmas_dist.training.initial_model import InitialModel


@dataclass(frozen=True)
class TrainingData:
    """What a Learner trains on and validates with; held once per node, shared by its workers.

    Attributes:
        training: Training clips without the held-out groups, in memory or in their stores;
            those of further stores follow those of the first.
        validation: Mixtures of clips from the held-out groups, or these clips as they are.
        store: The content of the first store's ``features.json``.
        further: What is taken from further stores.
        start: The model to start from.
        validated_on: The stores of the validation clips, one after the other, if they come from
            stores of their own.
        to_mix: The held-out clips, repeated so that instruments are equally frequent, of which
            the clips for thresholds are mixed; None if validation clips are not mixed.
        settings: How they are mixed.
    """

    training: Clips | StreamedClips
    validation: Clips
    store: StoreInfo
    further: tuple[FurtherData, ...] = ()
    start: "InitialModel | None" = None
    validated_on: tuple[ValidationStore, ...] = ()
    to_mix: Clips | None = None
    settings: ValidationSettings = field(default_factory=ValidationSettings)

    @property
    def stores(self) -> StoreWeights:
        """How often the training clips of each store are drawn."""
        counts = [one.clips for one in self.further]
        weights = (1.0, *(one.weight for one in self.further))
        return StoreWeights((len(self.training) - sum(counts), *counts), weights)

    @property
    def provenance(self) -> dict[str, Any]:
        """What is recorded in everything that is made from the data."""
        also = [one.record for one in self.further]
        init = {"init": self.start.record} if self.start else {}
        judges = [one.record for one in self.validated_on]
        own = {"own_validation": True} if VALIDATION in self.store.clips and not judges else {}
        return (
            self.store.digests
            | ({"also": also} if also else {})
            | init
            | own
            | ({"validated_on": judges} if judges else {})
        )

    def threshold_clips(self) -> Clips:
        """Return the clips that thresholds are fitted to; to mix them takes seconds."""
        return joined(list(self.threshold_clips_in_parts()))

    def threshold_clips_in_parts(self) -> Iterator[Clips]:
        """Yield these clips in parts that fit into memory if they are mixed, however long."""
        from irmas_dist.training.validation import mixtures_in_parts

        if self.to_mix is None:
            yield self.validation
        else:
            yield from mixtures_in_parts(self.to_mix, *_fitting(self.settings, self.store))

    @property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each band that windows are normalised by.

        Those of the model to start from, whose weights are made for them, or else those of the
        first store's training clips.
        """
        given = self.start or self.store
        return list(given.mean), list(given.std)

    @property
    def is_partial(self) -> bool:
        """Whether labels are unknown in some clips."""
        return any(bool(np.isnan(one.labels).any()) for one in (self.training, self.validation))


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
    is_split = not (validate_on or VALIDATION in data.store.clips)
    if start and is_split and start.has_learnt_from(data.store.identity, recipe.validation):
        say(
            f"{escape(start.name)} has learnt clips that are held out of {escape(features)} now, "
            "and figures of validation and thresholds will be too good: hold out what was held out "
            "when it was trained"
        )
    for location, judge in zip(validate_on, data.validated_on, strict=True):
        if start and judge.part == TRAINING and start.has_learnt(judge.info.identity):
            say(
                f"{escape(start.name)} has learnt clips of {escape(location)}, and figures of "
                "validation and thresholds will be too good: validate on others"
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
    of_its_own = VALIDATION in info.clips
    if settings.by == "source" and of_its_own and not judges:
        raise IrmasError(
            f"{location} has validation clips of its own, so that validation.by=source holds no "
            "source out: leave it out, or index the clips without that part"
        )
    own, validated_on = clips, tuple[ValidationStore, ...]()
    if judges:
        aside, new, validated_on = read_validation(validate_on, judges, info.vocabulary)
        own = new_clips(clips, location, info, new)
    elif of_its_own:
        aside = read_clips(location, VALIDATION)
        own = new_clips(clips, location, info, HeldOut.of(aside, location, info))
    else:
        try:
            out = held_out(clips.groups, clips.labels >= PRESENT, settings, info.vocabulary)
        except IrmasError as error:
            raise IrmasError(f"{location} cannot be split for validation: {error}") from error
        own = clips.select(np.flatnonzero(~out))
        aside = clips.select(np.flatnonzero(out))
    if not judges:
        require_positives(aside, location)
    _tell_lacking(aside, " and ".join(validate_on) or location, info.vocabulary)
    if further and not judges:
        new = HeldOut.of(aside, location, info)
        if settings.by == "source":
            seen = set().union(*sources_of(own, info.vocabulary))
            held = set().union(*sources_of(aside, info.vocabulary))
            new |= HeldOut(frozenset(), frozenset(), frozenset(held - seen))
    if TESTING in info.clips:
        tests = read_clips(location, TESTING, with_frames=False)
        if count := int(np.isin(own.groups, tests.groups).sum()):
            say(
                f"{count:,} training clips of {escape(location)} share a group with testing clips: "
                "figures on these will be too good"
            )
        if further:
            new |= HeldOut(frozenset(), HeldOut.of(tests, location, info).audio)
    taken = [
        read_further(store, one, info.vocabulary, new, resident=resident)
        for store, one in zip(further, infos, strict=True)
    ]
    training: Clips | StreamedClips = joined([own, *(clips for clips, _, _ in taken)])
    selecting = (settings.mixtures, mixing_alone(settings.mix), info.settings, settings.seed)
    balanced = equally_frequent(aside.labels)
    if not resident:
        stores = (StreamedStore(location, frozenset(own.clip_ids)), *(one for _, one, _ in taken))
        training = StreamedClips(
            tuple(replace(one, location=storage.absolute(one.location)) for one in stores),
            labels=training.labels,
            pool_clips=ingest.pool_clips,
        )
        if not (of_its_own or judges):
            used = np.arange(len(aside))
            if settings.mixed:
                fitted = mixed_clips(aside.select(balanced), *_fitting(settings, info))
                used = np.union1d(mixed_clips(aside, *selecting), balanced[fitted])
            aside = _with_frames(aside, used, location, info)
    mixed = settings.mixed and not judges
    if mixed and resident and further:
        aside = aside.compact()  # `joined` has copied the others' frames.
    return TrainingData(
        training,
        mixture_clips(aside, *selecting) if mixed else aside,
        info,
        tuple(data for _, _, data in taken),
        validated_on=validated_on,
        to_mix=aside.select(balanced) if mixed else None,
        settings=settings,
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
            f"no validation clip of {escape(name)} is known to have {', '.join(lacking)}: the "
            "model will not decide for what it was not validated on"
        )


def _fitting(
    settings: ValidationSettings, info: StoreInfo
) -> tuple[int, AugmentSettings, LogMelSettings, int]:
    """Return how clips are mixed that thresholds are fitted to, as `mixture_clips` takes it."""
    augment = mixing_alone(settings.mix, settings.equalise_db, settings.pitch_semitones)
    return settings.threshold_mixtures, augment, info.settings, settings.seed


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
