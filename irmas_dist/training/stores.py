"""Further feature stores, whose clips are learnt beside those of the first.

Validation, normalisation and thresholds come from the first store alone. Clips of a further store
that share a group or the audio with its validation clips are left out, as what a model is judged
by must be new to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from irmas_dist.config.base import differences
from irmas_dist.config.training import FurtherStore
from irmas_dist.corpus.manifest import TRAINING
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import Clips, StreamedStore, read_clips
from irmas_dist.features.store import StoreInfo, read_info, read_shards
from irmas_dist.instruments import Vocabulary
from irmas_dist.terminal import say


@dataclass(frozen=True)
class FurtherData:
    """What a training takes from a further store.

    Attributes:
        info: The content of its ``features.json``.
        weight: Examples that begin with one of its clips, for each of the first store's.
        clips: Number of its clips that are learnt.
        left_out: Number of its training clips that share a group or the audio with validation.
    """

    info: StoreInfo
    weight: float
    clips: int
    left_out: int

    @property
    def record(self) -> dict[str, Any]:
        """What is recorded in a model that has learnt from it."""
        return {
            **self.info.digests,
            "weight": self.weight,
            "training_clips": self.clips,
            "left_out": self.left_out,
        }


def read_further_infos(
    first: StoreInfo, name: str, further: Sequence[FurtherStore]
) -> list[StoreInfo]:
    """Read the ``features.json`` of further stores; ``name`` is the first store's.

    Raises:
        IrmasError: One is unfinished, has other feature settings than the first, or instruments
            that are neither some of the first's nor all of them and more; or one is given twice.
    """
    names = {first.identity: name}
    infos = []
    for one in further:
        info = read_info(one.location)
        if given := names.get(info.identity):
            raise IrmasError(f"--also {one.location} has the same content as {given}")
        names[info.identity] = one.location
        if differ := differences(info.settings, first.settings):
            raise IrmasError(
                f"--also {one.location} was made with other feature settings than {name}: "
                f"{differ}; extract it again with the same --config"
            )
        label_columns(info.vocabulary, first.vocabulary, f"--also {one.location}")
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
    store: FurtherStore, info: StoreInfo, first: Vocabulary, aside: "HeldOut", *, resident: bool
) -> tuple[Clips, StreamedStore, FurtherData]:
    """Read the training clips of a further store, without frames unless ``resident``.

    Returns:
        The clips, how to stream them, and what is taken.

    Raises:
        IrmasError: The store has no training clip that may be learnt.
    """
    columns = label_columns(info.vocabulary, first, f"--also {store.location}")
    clips = read_clips(store.location, TRAINING, with_frames=resident)
    shared = aside.shares(clips, store.location, info)
    kept = clips.select(np.flatnonzero(~shared)).with_columns(columns)
    left_out = int(shared.sum())
    if left_out:
        say(
            f"{left_out:,} of {len(clips):,} training clips of {store.location} share a group or "
            "the audio with validation clips: left out"
        )
    if not len(kept):
        raise IrmasError(
            f"--also {store.location}: every training clip shares a group or the audio with the "
            "validation clips; it has nothing to add"
        )
    streamed = StreamedStore(store.location, frozenset(kept.clip_ids), columns)
    return kept, streamed, FurtherData(info, store.weight, len(kept), left_out)


@dataclass(frozen=True)
class HeldOut:
    """Groups and audio of validation clips, which must not be learnt.

    Attributes:
        groups: Their groups.
        audio: Digests of their files.
    """

    groups: frozenset[str]
    audio: frozenset[str | None]

    @classmethod
    def of(cls, clips: Clips, location: str, info: StoreInfo) -> "HeldOut":
        """Return those of clips of a store."""
        digests = audio_digests(location, info)
        audio = {digests[clip_id] for clip_id in clips.clip_ids} - {None}
        return cls(frozenset(clips.groups), frozenset(audio))

    def shares(self, clips: Clips, location: str, info: StoreInfo) -> npt.NDArray[np.bool_]:
        """Return which clips of a store have such a group or audio, shape (clips,)."""
        digests = audio_digests(location, info)
        return np.array([
            group in self.groups or digests[clip_id] in self.audio
            for group, clip_id in zip(clips.groups, clips.clip_ids, strict=True)
        ], np.bool_)  # fmt: skip


def audio_digests(location: str, info: StoreInfo) -> dict[str, str | None]:
    """Return the digest of the audio file of each clip of a store."""
    table = pa.concat_tables(shard.clips for shard in read_shards(location, info.shards))
    columns = (table.column(name).to_pylist() for name in ("clip_id", "md5"))
    return dict(zip(*columns, strict=True))
