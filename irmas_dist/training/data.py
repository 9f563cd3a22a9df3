"""Training data: training clips and validation mixtures out of feature stores."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from irmas_dist.config.augment import AugmentSettings
from irmas_dist.config.corpus import ValidationSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.manifest import VALIDATION
from irmas_dist.features.clips import Clips, StreamedClips, joined
from irmas_dist.features.store import StoreInfo
from irmas_dist.training.known_audio import KnownAudio
from irmas_dist.training.records import DataRecord
from irmas_dist.training.sampling import StoreWeights, mixing_alone
from irmas_dist.training.stores import FurtherData, ValidationStore

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
        known: The audio of the training clips, and of those that are validated on.
    """

    training: Clips | StreamedClips
    validation: Clips
    store: StoreInfo
    further: tuple[FurtherData, ...] = ()
    start: "InitialModel | None" = None
    validated_on: tuple[ValidationStore, ...] = ()
    to_mix: Clips | None = None
    settings: ValidationSettings = field(default_factory=ValidationSettings)
    known: KnownAudio = field(default_factory=KnownAudio)

    @property
    def all_known(self) -> KnownAudio:
        """The audio that the model will know, with that of the model to start from."""
        return self.known | self.start.known if self.start else self.known

    @property
    def stores(self) -> StoreWeights:
        """How often the training clips of each store are drawn."""
        counts = [one.clips for one in self.further]
        weights = (1.0, *(one.weight for one in self.further))
        return StoreWeights((len(self.training) - sum(counts), *counts), weights)

    @property
    def record(self) -> DataRecord:
        """What is recorded in everything that is made from the data."""
        mixed = self.to_mix is not None
        return DataRecord(
            **self.store.digests,
            also=tuple(one.record for one in self.further),
            init=self.start.record if self.start else None,
            own_validation=VALIDATION in self.store.clips and not self.validated_on,
            validated_on=tuple(one.record for one in self.validated_on),
            partly_known=self.is_partial,
            training_clips=len(self.training),
            validation_clips=0 if mixed else len(self.validation),
            validation_mixtures=len(self.validation) if mixed else 0,
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
            yield from mixtures_in_parts(self.to_mix, *threshold_mixing(self.settings, self.store))

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


class Mixing(NamedTuple):
    """How validation clips are mixed, in the order of the arguments of `mixture_clips`."""

    examples: int
    settings: AugmentSettings
    features: LogMelSettings
    seed: int


def selection_mixing(settings: ValidationSettings, info: StoreInfo) -> Mixing:
    """Return how clips are mixed by which epochs are compared."""
    return Mixing(settings.mixtures, mixing_alone(settings.mix), info.settings, settings.seed)


def threshold_mixing(settings: ValidationSettings, info: StoreInfo) -> Mixing:
    """Return how clips are mixed that thresholds are fitted to."""
    augment = mixing_alone(settings.mix, settings.equalise_db, settings.pitch_semitones)
    return Mixing(settings.threshold_mixtures, augment, info.settings, settings.seed)
