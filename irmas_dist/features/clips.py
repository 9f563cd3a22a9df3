"""Clips of a feature store in memory: their frames in one array, and what is known of each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist import storage
from irmas_dist.config.features import LogMelSettings
from irmas_dist.errors import IrmasError
from irmas_dist.features.store import read_info, read_shards, spectrogram


@dataclass(frozen=True)
class Clips:
    """Clips held in memory: all frames in one array, and where each clip lies in it.

    A selection shares the array of frames with what it was selected from.

    Attributes:
        frames: Log-mel frames of all clips in the type of the store, shape (all frames, bands).
        starts: First frame of each clip, int64, shape (clips,).
        lengths: Frames of each clip, int64, shape (clips,).
        labels: Multi-hot labels, uint8, shape (clips, instruments).
        clip_ids: Identity of each clip.
        parts: Part of each clip: training or testing.
        groups: Group of each clip.
    """

    frames: npt.NDArray[np.float16] | npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    labels: npt.NDArray[np.uint8]
    clip_ids: list[str]
    parts: list[str]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def select(self, indices: npt.NDArray[np.int64] | list[int]) -> "Clips":
        """Return the clips at ``indices``, in that order."""
        indices = np.asarray(indices, np.int64)
        return Clips(
            frames=self.frames,
            starts=self.starts[indices],
            lengths=self.lengths[indices],
            labels=self.labels[indices],
            clip_ids=[self.clip_ids[i] for i in indices],
            parts=[self.parts[i] for i in indices],
            groups=[self.groups[i] for i in indices],
        )


def read_clips(location: str, part: str) -> Clips:
    """Read all clips of one part of a store into memory, in order of their identity.

    Raises:
        IrmasError: The store is not finished, or holds no clip of that part.
    """
    info = read_info(location)
    about = pa.concat_tables(shard.clips for shard in read_shards(location, info.shards))
    kept = about.filter(pc.equal(about.column("part"), part)).to_pylist()
    if not kept:
        raise IrmasError(f"{location} holds no {part} clips: its manifest had none of use")
    lengths = np.array([row["frames"] for row in kept], np.int64)
    starts = np.cumsum(lengths) - lengths
    settings = info.settings
    frames = np.empty((int(lengths.sum()), settings.bands), settings.dtype)
    at = 0
    # Shard by shard, so that little more than the array itself is ever in memory.
    for name in info.shards:
        table = storage.read_table(storage.join(location, name), ["part", "frames", "logmel"])
        table = table.filter(pc.equal(table.column("part"), part))
        for length, mel in zip(
            table.column("frames").to_pylist(), table.column("logmel"), strict=True
        ):
            frames[at : at + length] = spectrogram(mel, length, settings.dtype).T
            at += length
    order = sorted(range(len(kept)), key=lambda i: kept[i]["clip_id"])
    return Clips(
        frames=frames,
        starts=starts,
        lengths=lengths,
        labels=np.array([row["labels"] for row in kept], np.uint8),
        clip_ids=[row["clip_id"] for row in kept],
        parts=[row["part"] for row in kept],
        groups=[row["group"] for row in kept],
    ).select(order)


def clips_of(tables: list[pa.Table], settings: LogMelSettings) -> Clips:
    """Take the clips out of rows of a store, in order of their identity.

    Args:
        tables: Rows with all columns of a shard.
        settings: Those of the store.
    """
    table = pa.concat_tables(tables)
    table = table.take(pc.sort_indices(table.column("clip_id"))).combine_chunks()
    lengths = table.column("frames").to_numpy().astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    frames = np.empty((int(lengths.sum()), settings.bands), settings.dtype)
    for start, length, mel in zip(starts, lengths, table.column("logmel"), strict=True):
        frames[start : start + length] = spectrogram(mel, length, settings.dtype).T
    return replace(without_frames(table, settings), frames=frames, starts=starts)


def without_frames(table: pa.Table, settings: LogMelSettings) -> Clips:
    """Return what is known of clips, as if all of them lay at the start of an empty array.

    Args:
        table: Rows with all columns of a shard but the spectrograms.
        settings: Those of the store.
    """
    return Clips(
        frames=np.empty((0, settings.bands), settings.dtype),
        starts=np.zeros(table.num_rows, np.int64),
        lengths=table.column("frames").to_numpy().astype(np.int64),
        labels=np.array(table.column("labels").to_pylist(), np.uint8),
        clip_ids=table.column("clip_id").to_pylist(),
        parts=table.column("part").to_pylist(),
        groups=table.column("group").to_pylist(),
    )


def read_rows(location: str, columns: list[str], part: str) -> Iterator[pa.Table]:
    """Yield some columns of the rows of one part of a store, shard by shard."""
    for name in read_info(location).shards:
        table = storage.read_table(storage.join(location, name), columns)
        yield table.filter(pc.equal(table.column("part"), part))


@dataclass(frozen=True)
class StreamedClips:
    """Training clips that stay in their store.

    Attributes:
        location: Path or URL of the store.
        clip_ids: Those clips of the store that are trained with.
        labels: Their multi-hot labels, in the order of their identity, shape (clips, instruments).
        features: Settings of the store.
        pool_clips: Most clips in memory at a time.
    """

    location: str
    clip_ids: frozenset[str]
    labels: npt.NDArray[np.uint8]
    features: LogMelSettings
    pool_clips: int

    def __len__(self) -> int:
        return len(self.clip_ids)
