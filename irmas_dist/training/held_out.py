"""What validation and testing clips keep from being learnt.

What a model is judged by must be new to it: no training clip shares a group, its audio or a
held-out source with these.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from irmas_dist.corpus.groups import has_source, source_of
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import Clips
from irmas_dist.features.store import StoreInfo, read_shards
from irmas_dist.instruments import PRESENT, Vocabulary
from irmas_dist.terminal import say
from irmas_dist.training.known_audio import recordings

OfSource = tuple[str, str | frozenset[str]]
"""A source, with the code of an instrument or with all those of a clip."""


@dataclass(frozen=True)
class HeldOut:
    """Groups, audio and sources of validation clips, and audio of testing clips: not to be learnt.

    Attributes:
        groups: Their groups.
        audio: Digests of their files, with the span of a clip that is one.
        sources: What is held out of sources as a whole, as from `sources_of`.
    """

    groups: frozenset[str] = frozenset()
    audio: frozenset[str] = frozenset()
    sources: frozenset[OfSource] = frozenset()

    @classmethod
    def of(cls, clips: Clips, location: str, info: StoreInfo) -> "HeldOut":
        """Return those of clips of a store."""
        digests = audio_digests(location, info)
        audio = (digests[clip_id] for clip_id in clips.clip_ids)
        return cls(frozenset(clips.groups), frozenset(filter(None, audio)))

    def __or__(self, other: "HeldOut") -> "HeldOut":
        return HeldOut(
            self.groups | other.groups, self.audio | other.audio, self.sources | other.sources
        )

    def shares(
        self, clips: Clips, location: str, info: StoreInfo, *, of_one_file: bool = True
    ) -> npt.NDArray[np.bool_]:
        """Return which clips of a store have such a group, audio or source, shape (clips,).

        The arguments are those of `new_clips`.
        """
        digests, files = audio_digests(location, info), frozenset[str]()
        if of_one_file:
            files = recordings(self.audio)
        shared = np.array([
            group in self.groups
            or digests[clip_id] in self.audio
            or not files.isdisjoint(recordings([digests[clip_id]]))
            for group, clip_id in zip(clips.groups, clips.clip_ids, strict=True)
        ], np.bool_)  # fmt: skip
        if self.sources:
            of_clips = sources_of(clips, info.vocabulary)
            shared |= [not self.sources.isdisjoint(sources) for sources in of_clips]
        return shared


def new_clips(
    clips: Clips, location: str, info: StoreInfo, aside: HeldOut, *, of_one_file: bool = True
) -> Clips:
    """Return the clips of a store that share nothing with what is held out; say how many do.

    Args:
        clips: Clips of the store.
        location: Of the store.
        info: Of the store.
        aside: What is held out.
        of_one_file: Whether spans of the same file share their audio, also where they do not
            overlap.

    Raises:
        IrmasError: All do.
    """
    shared = aside.shares(clips, location, info, of_one_file=of_one_file)
    if shared.all():
        raise IrmasError(
            f"{location}: every training clip shares a group, the audio or a source with clips "
            "that are held out; there is nothing to learn"
        )
    if count := int(shared.sum()):
        say(
            f"{count:,} of {len(clips):,} training clips of {location} share a group, "
            "the audio or a source with clips that are held out: left out"
        )
    return clips.select(np.flatnonzero(~shared))


def sources_of(clips: Clips, vocabulary: Vocabulary) -> list[set[OfSource]]:
    """Return the source of each clip with each of its instruments and with all of them together.

    A clip of no known source has none.
    """
    found: list[set[OfSource]] = []
    for group, row in zip(clips.groups, clips.labels >= PRESENT, strict=True):
        codes = [vocabulary.codes[column] for column in np.flatnonzero(row)]
        keys: list[str | frozenset[str]] = [*codes, frozenset(codes)]
        known = codes and has_source(group)
        found.append({(source_of(group), key) for key in keys} if known else set())
    return found


def audio_digests(location: str, info: StoreInfo) -> dict[str, str | None]:
    """Return the digest of the audio file of each clip of a store."""
    table = pa.concat_tables(shard.clips for shard in read_shards(location, info.shards))
    columns = (table.column(name).to_pylist() for name in ("clip_id", "md5"))
    return dict(zip(*columns, strict=True))
