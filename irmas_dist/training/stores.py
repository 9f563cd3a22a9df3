"""Feature stores beside the first: further ones to learn, and those to validate on.

Validation, normalisation and thresholds come from the first store alone, unless there are stores to
validate on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from irmas_dist.config.base import differences
from irmas_dist.config.training import FurtherStore
from irmas_dist.corpus.manifest import TESTING, TRAINING, VALIDATION
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import Clips, StreamedStore, joined, read_clips
from irmas_dist.features.store import StoreInfo, read_info
from irmas_dist.instruments import PRESENT, Vocabulary
from irmas_dist.training.held_out import HeldOut, new_clips
from irmas_dist.training.records import FurtherRecord, ValidationRecord


@dataclass(frozen=True)
class FurtherData:
    """What a training takes from a further store.

    Attributes:
        info: The content of its ``features.json``.
        weight: Examples that begin with one of its clips, for each of the first store's.
        clips: Number of its clips that are learnt.
        left_out: Number of its training clips that share a group, the audio or a held-out source
            with validation.
        audio: Digests of the files of the clips that are learnt.
    """

    info: StoreInfo
    weight: float
    clips: int
    left_out: int
    audio: frozenset[str] = frozenset()

    @property
    def record(self) -> FurtherRecord:
        """What is recorded in a model that has learnt from it."""
        return FurtherRecord(
            **self.info.digests,
            weight=self.weight,
            training_clips=self.clips,
            left_out=self.left_out,
        )


@dataclass(frozen=True)
class ValidationStore:
    """A store that is validated on.

    Attributes:
        info: The content of its ``features.json``.
        part: The part of its clips.
        clips: Their number.
    """

    info: StoreInfo
    part: str
    clips: int

    @property
    def record(self) -> ValidationRecord:
        """What is recorded in a model that was validated on it."""
        return ValidationRecord(**self.info.digests, part=self.part, clips=self.clips)


def read_other_infos(
    first: StoreInfo, name: str, locations: Sequence[str], option: str
) -> list[StoreInfo]:
    """Read the ``features.json`` of stores beside the first, whose name is ``name``.

    Raises:
        IrmasError: One is unfinished, has other feature settings than the first, or instruments
            that are neither some of the first's nor all of them and more; or one is given twice.
    """
    names = {first.identity: name}
    infos = []
    for location in locations:
        info = read_info(location)
        if given := names.get(info.identity):
            raise IrmasError(f"{option} {location} has the same content as {given}")
        names[info.identity] = location
        if differ := differences(info.settings, first.settings):
            raise IrmasError(
                f"{option} {location} was made with other feature settings than {name}: "
                f"{differ}; extract it again with the same --config"
            )
        label_columns(info.vocabulary, first.vocabulary, f"{option} {location}")
        infos.append(info)
    return infos


def label_columns(found: Vocabulary, wanted: Vocabulary, name: str) -> tuple[int, ...] | None:
    """Return the columns that bring labels to another vocabulary, by code.

    Instruments that only ``found`` has are dropped; of those that only ``wanted`` has, nobody
    says whether they play.

    Returns:
        As `Clips.with_columns` takes them; None if the vocabularies are the same.

    Raises:
        IrmasError: Each has instruments that the other lacks; ``name`` is that of the store.
    """
    if found.codes == wanted.codes:
        return None
    lacking = [code for code in wanted.codes if code not in found]
    foreign = [code for code in found.codes if code not in wanted]
    if lacking and foreign:
        raise IrmasError(
            f"{name} has other instruments: it lacks {', '.join(lacking)}, and has "
            f"{', '.join(foreign)}; those of one store must be among those of the other"
        )
    return tuple(found.codes.index(code) if code in found else -1 for code in wanted.codes)


def read_further(
    store: FurtherStore, info: StoreInfo, first: Vocabulary, aside: HeldOut, *, resident: bool
) -> tuple[Clips, StreamedStore, FurtherData]:
    """Read the training clips of a further store, without frames unless ``resident``.

    Returns:
        The clips, how to stream them, and what is taken.

    Raises:
        IrmasError: The store has no training clip that may be learnt.
    """
    columns = label_columns(info.vocabulary, first, f"--also {store.location}")
    clips = read_clips(store.location, TRAINING, with_frames=resident)
    kept = new_clips(clips, store.location, info, aside).with_columns(columns)
    streamed = StreamedStore(store.location, info.identity, frozenset(kept.clip_ids), columns)
    audio = HeldOut.of(kept, store.location, info).audio
    taken = FurtherData(info, store.weight, len(kept), len(clips) - len(kept), audio)
    return kept, streamed, taken


def read_validation(
    locations: Sequence[str], infos: Sequence[StoreInfo], first: Vocabulary
) -> tuple[Clips, HeldOut, tuple[ValidationStore, ...]]:
    """Read the clips of stores to validate on, at least one store.

    Of each store, those are its validation clips, or else its testing clips, or else all it has.

    Returns:
        The clips, what they keep from being learnt, and the stores.

    Raises:
        IrmasError: See `require_positives`.
    """
    read: list[Clips] = []
    stores: list[ValidationStore] = []
    aside = HeldOut()
    for location, info in zip(locations, infos, strict=True):
        part = next(one for one in (VALIDATION, TESTING, TRAINING) if one in info.clips)
        clips = read_clips(location, part)
        aside |= HeldOut.of(clips, location, info)
        columns = label_columns(info.vocabulary, first, f"--validate-on {location}")
        read.append(clips.with_columns(columns))
        require_positives(read[-1], location)
        stores.append(ValidationStore(info, part, len(clips)))
    return joined(read), aside, tuple(stores)


def require_positives(clips: Clips, name: str) -> None:
    """Refuse validation clips by which no epoch is better than another.

    Args:
        clips: Validation clips.
        name: Of their store.

    Raises:
        IrmasError: Of no clip it is known that an instrument plays.
    """
    if not (clips.labels >= PRESENT).any():
        raise IrmasError(
            f"of no validation clip of {name} is it known that an instrument plays, so that epochs "
            "cannot be compared; validate on other clips (--validate-on), or without that part"
        )
