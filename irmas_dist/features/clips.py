"""Clips of a feature store in memory: their frames in one array, and their metadata."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist import storage
from irmas_dist.config.features import LogMelSettings
from irmas_dist.errors import IrmasError
from irmas_dist.features.store import label_array, logmel_array, read_info, read_shards
from irmas_dist.instruments import SoftLabels


@dataclass(frozen=True)
class Clips:
    """Clips in memory: all frames in one array, and the range of each clip in it.

    A selection shares the array of frames with the clips it was selected from.

    Attributes:
        frames: Log-mel frames of all clips in the store's type, shape (all frames, bands).
        starts: First frame of each clip, int64, shape (clips,).
        lengths: Frames of each clip, int64, shape (clips,).
        labels: Shape (clips, instruments).
        clip_ids: Identity of each clip.
        parts: Part of each clip: training or testing.
        groups: Group of each clip.
    """

    frames: npt.NDArray[np.float16] | npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    labels: SoftLabels
    clip_ids: list[str]
    parts: list[str]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def select(self, indices: npt.NDArray[np.integer] | list[int]) -> "Clips":
        """Return the clips at ``indices``, in that order."""
        return replace(
            self,
            starts=self.starts[indices],
            lengths=self.lengths[indices],
            labels=self.labels[indices],
            clip_ids=[self.clip_ids[i] for i in indices],
            parts=[self.parts[i] for i in indices],
            groups=[self.groups[i] for i in indices],
        )

    def compact(self) -> "Clips":
        """Return the clips with frames of their own, without those of others."""
        spans = zip(self.starts, self.lengths, strict=True)
        return replace(
            self,
            frames=np.concatenate([self.frames[start : start + length] for start, length in spans]),
            starts=np.cumsum(self.lengths) - self.lengths,
        )

    def with_columns(self, columns: Sequence[int] | None) -> "Clips":
        """Return the clips with other columns of labels.

        Args:
            columns: The present column of each new one, -1 for one of unknown labels; None
                leaves the labels as they are.
        """
        if columns is None:
            return self
        unknown = np.full((len(self), 1), np.nan, np.float32)
        return replace(self, labels=np.hstack([self.labels, unknown])[:, list(columns)])


def read_clips(location: str, part: str, *, with_frames: bool = True) -> Clips:
    """Read all clips of one part of a store into memory, sorted by identity.

    Without frames, only their metadata are read, and the array of frames is empty.

    Raises:
        IrmasError: The store is not finished, or has no clip of this part.
    """
    info = read_info(location)
    table = pa.concat_tables(shard.clips for shard in read_shards(location, info.shards))
    whole = table
    table = whole.filter(pc.equal(whole.column("part"), part))
    if not table.num_rows:
        parts = sorted(whole.column("part").unique().to_pylist())
        raise IrmasError(f"{location} holds no {part} clips, only {' and '.join(parts)}")
    clips = _without_frames(table, info.settings)
    if with_frames:
        # Shard by shard, so that little more than the array itself is ever in memory.
        shards = read_rows(location, ["part", "logmel"], part)
        spectrograms = (mel for rows in shards for mel in rows.column("logmel"))
        clips = _with_frames(clips, spectrograms, info.settings)
    return clips.select(pc.sort_indices(table.column("clip_id")).to_numpy())


def clips_of(tables: list[pa.Table], settings: LogMelSettings) -> Clips:
    """Return the clips in rows of a store, which have all its columns, sorted by identity."""
    table = pa.concat_tables(tables).sort_by("clip_id").combine_chunks()
    return _with_frames(_without_frames(table, settings), table.column("logmel"), settings)


def _without_frames(table: pa.Table, settings: LogMelSettings) -> Clips:
    """Return the clips in rows of a store, with an empty array of frames."""
    return Clips(
        frames=np.empty((0, settings.bands), settings.dtype),
        starts=np.zeros(table.num_rows, np.int64),
        lengths=table.column("frames").to_numpy().astype(np.int64),
        labels=label_array(table.column("labels")),
        clip_ids=table.column("clip_id").to_pylist(),
        parts=table.column("part").to_pylist(),
        groups=table.column("group").to_pylist(),
    )


def _with_frames(clips: Clips, logmels: Iterable[pa.Scalar], settings: LogMelSettings) -> Clips:
    """Fill in the frames of clips from their values of ``logmel``."""
    ends = np.cumsum(clips.lengths)
    frames = np.empty((int(clips.lengths.sum()), settings.bands), settings.dtype)
    for end, length, value in zip(ends, clips.lengths, logmels, strict=True):
        frames[end - length : end] = logmel_array(value, length, settings.dtype).T
    return replace(clips, frames=frames, starts=ends - clips.lengths)


def read_rows(location: str, columns: list[str], part: str) -> Iterator[pa.Table]:
    """Yield some columns of the rows of one part of a store, shard by shard."""
    for name in read_info(location).shards:
        table = storage.read_table(storage.join(location, name), columns)
        yield table.filter(pc.equal(table.column("part"), part))


def joined(several: Sequence[Clips]) -> Clips:
    """Return the clips of several, one after the other; of a single one, without a copy."""
    if len(several) == 1:
        return several[0]
    frames = [len(clips.frames) for clips in several]
    firsts = np.cumsum([0, *frames[:-1]])
    return Clips(
        frames=np.concatenate([clips.frames for clips in several]),
        starts=np.concatenate(
            [clips.starts + first for clips, first in zip(several, firsts, strict=True)]
        ),
        lengths=np.concatenate([clips.lengths for clips in several]),
        labels=np.concatenate([clips.labels for clips in several]),
        clip_ids=[clip_id for clips in several for clip_id in clips.clip_ids],
        parts=[part for clips in several for part in clips.parts],
        groups=[group for clips in several for group in clips.groups],
    )


@dataclass(frozen=True)
class StreamedStore:
    """Training clips of one store that are read from it every epoch.

    Attributes:
        location: Path or URL of the store.
        identity: Its identity, of the content that the clips were chosen from.
        clip_ids: The clips to train with.
        columns: As for `Clips.with_columns`; None leaves the labels as they are stored.
    """

    location: str
    identity: str
    clip_ids: frozenset[str]
    columns: tuple[int, ...] | None = None


@dataclass(frozen=True)
class StreamedClips:
    """Training clips that are read from their stores every epoch.

    Attributes:
        stores: The stores, in the order of their clips.
        labels: Of all clips, those of each store sorted by identity, shape (clips, instruments).
        pool_clips: Largest number of clips in a pool, but for small further stores.
    """

    stores: tuple[StreamedStore, ...]
    labels: SoftLabels
    pool_clips: int

    def __len__(self) -> int:
        return sum(len(store.clip_ids) for store in self.stores)

    @property
    def pools(self) -> int:
        """Number of pools that they are read in."""
        return -(-len(self) // self.pool_clips)
