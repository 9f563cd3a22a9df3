"""What a model's description records of the data and the audio that it was made from."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field, PositiveFloat

from irmas_dist.config.base import Settings


class StoreRecord(Settings):
    """A feature store, by its digests."""

    manifest: str
    """Of the manifest that was extracted."""
    features: str
    """Of the feature settings and the vocabulary."""
    store: str
    """Of the content."""


class FurtherRecord(StoreRecord):
    """A further store that was learnt."""

    weight: PositiveFloat
    """Examples that begin with one of its clips, for each of the first store's."""
    training_clips: int
    """Number of its clips that were learnt."""
    left_out: int
    """Number of its training clips that share something with validation."""


class ValidationRecord(StoreRecord):
    """A store that was validated on."""

    part: str
    """The part of its clips."""
    clips: int
    """Their number."""


class DataRecord(StoreRecord):
    """The data that a model, or the trials of a sweep, were made from."""

    also: tuple[FurtherRecord, ...] = ()
    init: "StartRecord | None" = None
    own_validation: bool = False
    """Whether the store has validation clips of its own, that were validated on."""
    validated_on: tuple[ValidationRecord, ...] = ()
    """The stores of validation clips, if they have stores of their own."""
    partly_known: bool = False
    """Whether some labels were unknown."""
    training_clips: int = 0
    validation_clips: int = 0
    """Number of clips that were validated on, if they are not mixed."""
    validation_mixtures: int = 0
    """Number of mixtures that were validated on."""

    @property
    def inputs(self) -> "TrainingInputs":
        """What another training must have in common with this one to be the same."""
        also = tuple((one.store, one.weight) for one in self.also)
        return TrainingInputs(
            store=self.store, also=also, init=self.init.weights if self.init else None
        )

    @property
    def starts(self) -> "Iterator[StartRecord]":
        """The model that the training started from, the one that this did, and on."""
        start = self.init
        while start:
            yield start
            start = start.data.init

    @property
    def store_sizes(self) -> list[int]:
        """Number of validation clips of each store that was validated on, in order."""
        return [one.clips for one in self.validated_on]

    def fingerprints(self) -> dict[str, Any]:
        """The digests of all that it was made from, without what was taken of it."""
        counts = {"partly_known", "training_clips", "validation_clips", "validation_mixtures"}
        return self.model_dump(mode="json", exclude=counts, exclude_defaults=True)

    def facts(self) -> dict[str, Any]:
        """Return what is known as JSON has it, without what does not apply."""
        return self.model_dump(mode="json", exclude_defaults=True)


class StartRecord(Settings):
    """A model that a training started from."""

    weights: str
    """Their digest."""
    data: DataRecord
    adapted_to: str | None = None
    """What it was adapted to."""


class TrainingInputs(Settings):
    """What a training is given, as an unfinished one records it."""

    store: str
    """Digest of the first store's content."""
    also: tuple[tuple[str, float], ...] = ()
    """The same of further stores, each with its weight."""
    init: str | None = None
    """Digest of the weights that it starts from."""


class AdaptationRecord(Settings):
    """What was done to adapt a model to audio without labels, see `inference.adapt`.

    Of an ensemble: to what its members were adapted, whose own records say the rest.
    """

    to: str
    """Where the audio is from."""
    clips: int = 0
    share: float = Field(default=0.0, ge=0, le=1)
    """Of the statistics of batch normalisation that are the audio's."""
    match: float = Field(default=0.0, ge=0, le=1)
    """How far logits are matched."""
    prevalence: dict[str, float] = Field(default_factory=dict)
    """The share of clips in which an instrument plays, by code, where it is known."""
    scale: dict[str, float] = Field(default_factory=dict)
    """What the logits of each instrument are multiplied by."""
    offset: dict[str, float] = Field(default_factory=dict)
    """What is added then."""
    notes: tuple[str, ...] = ()
    """What the user was told."""
