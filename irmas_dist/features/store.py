"""The feature store: Parquet shards of log-mel spectrograms, and what was measured of them.

One row per clip; ``logmel`` is float16, bands × frames in row-major order. A shard is named by
the clips in it, carries the fingerprint of the settings that made it, and appears whole or not
at all, so that an interrupted extraction leaves nothing that could be mistaken for more.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from irmas_dist import storage
from irmas_dist.corpus.manifest import TRAINING
from irmas_dist.errors import IrmasError
from irmas_dist.features.logmel import LogMelSettings
from irmas_dist.instruments import Vocabulary

FORMAT = 1
"""Format number of the store; part of every fingerprint."""

SHARD_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("part", pa.string()),
        pa.field("group", pa.string()),
        pa.field("labels", pa.list_(pa.uint8())),
        pa.field("frames", pa.int32()),
        pa.field("logmel", pa.list_(pa.float16())),
    ]
)
REJECTS_SCHEMA = pa.schema([pa.field("clip_id", pa.string()), pa.field("problem", pa.string())])

_META = b"irmas_dist"


@dataclass(frozen=True)
class StoreInfo:
    """What ``features.json`` says of a finished store.

    Attributes:
        settings: How the spectrograms were made.
        vocabulary: The instruments, in the order of the labels.
        fingerprint: Digest of the settings, the vocabulary and the format.
        manifest: Fingerprint of the manifest that was extracted.
        clips: Number of clips by part.
        frames: Number of frames in all.
        mean: Per-band mean over the frames of the training clips, shape (bands,).
        std: Per-band standard deviation over the same, shape (bands,).
    """

    settings: LogMelSettings
    vocabulary: Vocabulary
    fingerprint: str
    manifest: str
    clips: dict[str, int]
    frames: int
    mean: list[float]
    std: list[float]


def fingerprint(settings: LogMelSettings, vocabulary: Vocabulary) -> str:
    """Return the digest that tells apart stores made with different settings."""
    content = json.dumps([FORMAT, settings.model_dump(), vocabulary.codes], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write_shard(location: str, rows: list[dict[str, Any]], print_: str, bands: int) -> None:
    """Write clips as one shard named by their identities.

    Args:
        location: Directory of the store.
        rows: One dict per clip with the columns of a shard; ``logmel`` has shape (bands, frames).
        print_: Fingerprint of the settings.
        bands: Number of mel bands.
    """
    total = np.zeros((2, bands))
    frames = 0
    for row in rows:
        if row["part"] == TRAINING:
            mel = row["logmel"].astype(np.float64)
            total += mel.sum(axis=1), np.square(mel).sum(axis=1)
            frames += mel.shape[1]
    meta = {
        "fingerprint": print_,
        "training_frames": frames,
        "sum": total[0].tolist(),
        "sum_of_squares": total[1].tolist(),
    }
    columns: dict[str, Any] = {
        name: [row[name] for row in rows] for name in ("clip_id", "part", "group", "labels")
    }
    columns["frames"] = [row["logmel"].shape[1] for row in rows]
    offsets = np.cumsum([0] + [row["logmel"].size for row in rows])
    values = np.concatenate([row["logmel"].ravel() for row in rows])
    columns["logmel"] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))
    table = pa.table(columns, schema=SHARD_SCHEMA.with_metadata({_META: json.dumps(meta)}))
    digest = hashlib.sha256("\n".join(columns["clip_id"]).encode()).hexdigest()[:16]
    # Log-mels hardly compress, and dictionaries of them would only cost time.
    storage.write_table(
        storage.join(location, f"part-{digest}.parquet"), table, use_dictionary=False
    )


def shard_names(location: str) -> list[str]:
    """Return the file names of the whole shards in a store, sorted."""
    return [
        name
        for name in storage.list_files(location)
        if name.startswith("part-") and name.endswith(".parquet")
    ]


def stored_clips(location: str, print_: str) -> set[str]:
    """Return the identities of the clips that are in a store already.

    Raises:
        IrmasError: The store was made with other settings.
    """
    clips: set[str] = set()
    for name in shard_names(location):
        meta = _shard_meta(location, name)
        if meta["fingerprint"] != print_:
            raise IrmasError(
                f"{location} holds features of other settings (fingerprint {meta['fingerprint']}, "
                f"these settings have {print_}); choose another directory"
            )
        ids = storage.read_table(storage.join(location, name), ["clip_id"]).column("clip_id")
        clips.update(ids.to_pylist())
    return clips


def band_statistics(location: str, bands: int) -> tuple[list[float], list[float]]:
    """Return the per-band mean and standard deviation over all training frames of a store."""
    total = np.zeros((2, bands))
    frames = 0
    for name in shard_names(location):
        meta = _shard_meta(location, name)
        total += meta["sum"], meta["sum_of_squares"]
        frames += meta["training_frames"]
    mean, square = total / max(frames, 1)
    # A band that never moves would otherwise be divided by zero.
    std = np.sqrt(np.maximum(square - mean**2, 1e-6)) if frames else np.ones(bands)
    return mean.tolist(), std.tolist()


def write_info(location: str, info: StoreInfo) -> None:
    """Write ``features.json``: from then on the store can be read."""
    content = {
        "format": FORMAT,
        "fingerprint": info.fingerprint,
        "manifest": info.manifest,
        "settings": info.settings.model_dump(),
        "instruments": dict(zip(info.vocabulary.codes, info.vocabulary.names, strict=True)),
        "clips": info.clips,
        "frames": info.frames,
        "mean": info.mean,
        "std": info.std,
    }
    storage.write_json(storage.join(location, "features.json"), content)


def read_info(location: str) -> StoreInfo:
    """Read ``features.json``.

    Raises:
        IrmasError: There is no finished store at ``location``, or one of another format.
    """
    place = storage.join(location, "features.json")
    if not storage.exists(place):
        raise IrmasError(f"{location} is not a finished feature store; make one: irmas extract")
    content = storage.read_json(place)
    if content.get("format") != FORMAT:
        raise IrmasError(f"{place} has format {content.get('format')}, this version reads {FORMAT}")
    return StoreInfo(
        settings=LogMelSettings(**content["settings"]),
        vocabulary=Vocabulary.of(content["instruments"]),
        fingerprint=content["fingerprint"],
        manifest=content["manifest"],
        clips=content["clips"],
        frames=content["frames"],
        mean=content["mean"],
        std=content["std"],
    )


@dataclass(frozen=True)
class Clips:
    """Clips held in memory: all frames in one array, and where each clip lies in it.

    A selection shares the array of frames with what it was selected from.

    Attributes:
        frames: Log-mel frames of all clips, float16, shape (all frames, bands).
        starts: First frame of each clip, int64, shape (clips,).
        lengths: Frames of each clip, int64, shape (clips,).
        labels: Multi-hot labels, uint8, shape (clips, instruments).
        clip_ids: Identity of each clip.
        parts: Part of each clip: training or testing.
        groups: Group of each clip.
    """

    frames: npt.NDArray[np.float16]
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
    places = [storage.join(location, name) for name in shard_names(location)]
    columns = ["clip_id", "part", "group", "labels", "frames"]
    about = [row for place in places for row in storage.read_table(place, columns).to_pylist()]
    kept = [row for row in about if row["part"] == part]
    if not kept:
        raise IrmasError(f"{location} holds no {part} clips: its manifest had none of use")
    lengths = np.array([row["frames"] for row in kept], np.int64)
    starts = np.cumsum(lengths) - lengths
    frames = np.empty((int(lengths.sum()), info.settings.bands), np.float16)
    at = 0
    # Shard by shard, so that little more than the array itself is ever in memory.
    for place in places:
        table = storage.read_table(place, ["part", "frames", "logmel"])
        table = table.filter(pc.equal(table.column("part"), part))
        for length, mel in zip(table.column("frames"), table.column("logmel"), strict=True):
            flat = mel.values.to_numpy()
            frames[at : at + length.as_py()] = flat.reshape(-1, length.as_py()).T
            at += length.as_py()
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


def _shard_meta(location: str, name: str) -> dict[str, Any]:
    filesystem, path = storage.resolve(storage.join(location, name))
    with filesystem.open_input_file(path) as source:
        return dict(json.loads(pq.read_schema(source).metadata[_META]))
