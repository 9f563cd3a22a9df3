"""The feature store: Parquet shards of log-mel spectrograms, and what was measured of them.

One row per clip; ``logmel`` is the bytes of bands × frames numbers in row-major order, of the
type that was computed. A list would say so itself, but takes Parquet ten times as long to write,
and seven to read: it notes for each number that there is one.
A shard is named by the clips that it was made of, carries the fingerprint of the settings, and
appears whole or not at all. ``features.json`` is written last and names the shards that belong to
the store: what a process that was given up for dead may still leave is none of it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist import storage
from irmas_dist.corpus.manifest import TRAINING
from irmas_dist.errors import IrmasError
from irmas_dist.features.logmel import LogMelSettings
from irmas_dist.instruments import Vocabulary

FORMAT = 4
"""Format number of the store; part of every fingerprint."""

SHARD_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("md5", pa.string()),
        pa.field("part", pa.string()),
        pa.field("group", pa.string()),
        pa.field("labels", pa.list_(pa.uint8())),
        pa.field("frames", pa.int32()),
    ]
)
"""Columns of a shard beside ``logmel``, which is binary. ``md5`` is that of the audio file: a
clip whose file has changed is computed again."""

REJECTS_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("md5", pa.string()),
        pa.field("problem", pa.string()),
        pa.field("found_in", pa.string()),
    ]
)
"""Columns of ``rejects.parquet``. ``found_in`` is what the problem was found in: the manifest,
the labels or the audio."""

INFO = "features.json"
REJECTS = "rejects.parquet"

READERS = 16
"""Shards that are looked into at once: from an object store, each answer takes its time."""

_META = b"irmas_dist"


@dataclass(frozen=True)
class Shard:
    """What a shard holds, but for the spectrograms.

    Attributes:
        name: File name.
        fingerprint: Digest of the settings that made it.
        dtype: Type of the numbers in its spectrograms.
        training_frames: Number of frames of its training clips.
        moments: Their sum and their sum of squares by band, shape (2, bands).
        clips: Its clips, with the columns of `SHARD_SCHEMA`.
    """

    name: str
    fingerprint: str
    dtype: str
    training_frames: int
    moments: npt.NDArray[np.float64]
    clips: pa.Table


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
        shards: File names of the shards that make up the store, sorted.
        mean: Per-band mean over the frames of the training clips, shape (bands,).
        std: Per-band standard deviation over the same, shape (bands,).
    """

    settings: LogMelSettings
    vocabulary: Vocabulary
    fingerprint: str
    manifest: str
    clips: dict[str, int]
    frames: int
    shards: list[str]
    mean: list[float]
    std: list[float]


def fingerprint(settings: LogMelSettings, vocabulary: Vocabulary) -> str:
    """Return the digest that tells apart stores made with different settings."""
    content = json.dumps([FORMAT, settings.model_dump(), vocabulary.codes], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write_shard(location: str, rows: Sequence[dict[str, Any]], print_: str) -> int:
    """Write clips as one shard named by their identities.

    Args:
        location: Directory of the store.
        rows: One dict per clip with the columns of a shard; ``logmel`` has shape (bands, frames).
        print_: Fingerprint of the settings.

    Returns:
        Size of the file in bytes.
    """
    digest = hashlib.sha256("\n".join(f"{row['clip_id']} {row['md5']}" for row in rows).encode())
    return _write(location, f"part-{digest.hexdigest()[:16]}.parquet", rows, print_)


def rewrite_shard(location: str, shard: Shard, kept: pa.Table) -> None:
    """Replace a shard by some of its clips, with other labels, part and group.

    Args:
        location: Directory of the store.
        shard: The shard.
        kept: The clips that stay, with ``row`` (their place in the shard), ``part``, ``group``
            and ``labels``; when there are none, the shard is deleted.
    """
    place = storage.join(location, shard.name)
    if not kept.num_rows:
        storage.remove(place)
        return
    stored = storage.read_table(place).take(kept.column("row"))
    rows = [
        {**row, "clip_id": clip, "md5": md5, "logmel": spectrogram(mel, frames, shard.dtype)}
        for row, clip, md5, mel, frames in zip(
            kept.to_pylist(),
            stored.column("clip_id").to_pylist(),
            stored.column("md5").to_pylist(),
            stored.column("logmel"),
            stored.column("frames").to_pylist(),
            strict=True,
        )
    ]
    # Under its name, so that no clip is ever in two shards.
    _write(location, shard.name, rows, shard.fingerprint)


def _write(location: str, name: str, rows: Sequence[dict[str, Any]], print_: str) -> int:
    mels = [row["logmel"] for row in rows]
    training = [row["logmel"] for row in rows if row["part"] == TRAINING]
    moments = sum((_moments(mel) for mel in training), np.zeros((2, len(mels[0]))))
    meta = {
        "fingerprint": print_,
        "dtype": mels[0].dtype.name,
        "training_frames": sum(mel.shape[1] for mel in training),
        "moments": moments.tolist(),
    }
    columns = {
        field.name: pa.array([row[field.name] for row in rows], field.type)
        for field in SHARD_SCHEMA
        if field.name != "frames"
    }
    columns["frames"] = pa.array([mel.shape[1] for mel in mels], pa.int32())
    columns["logmel"] = pa.array([mel.tobytes() for mel in mels], pa.binary())
    table = pa.table(columns).replace_schema_metadata({_META: json.dumps(meta)})
    place = storage.join(location, name)
    # Log-mels do not repeat: all of these would only cost time.
    storage.write_table(
        place, table, use_dictionary=False, write_statistics=False, compression="none"
    )
    return storage.size(place)


def spectrogram(
    value: pa.BinaryScalar, frames: int, dtype: npt.DTypeLike
) -> npt.NDArray[np.float16] | npt.NDArray[np.float32]:
    """Return a value of the column ``logmel`` as an array of shape (bands, frames), read-only."""
    return np.frombuffer(value.as_buffer(), dtype).reshape(-1, frames)


def _moments(mel: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Sum and sum of squares by band, shape (2, bands), some frames at a time."""
    total = np.zeros((2, len(mel)))
    for low in range(0, mel.shape[1], 4_096):
        frames = mel[:, low : low + 4_096].astype(np.float64)
        total += frames.sum(axis=1), np.einsum("bf,bf->b", frames, frames)
    return total


def shard_names(location: str) -> list[str]:
    """Return the file names of the whole shards in a directory, sorted."""
    return [
        name
        for name in storage.list_files(location)
        if name.startswith("part-") and name.endswith(".parquet")
    ]


def read_shards(location: str, names: Iterable[str]) -> list[Shard]:
    """Look into shards, in the order of their names; spectrograms are not read."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda name: _read_shard(location, name), sorted(names)))


def _read_shard(location: str, name: str) -> Shard:
    clips = storage.read_table(storage.join(location, name), SHARD_SCHEMA.names)
    meta = json.loads(clips.schema.metadata[_META])
    return Shard(
        name=name,
        fingerprint=meta["fingerprint"],
        dtype=meta["dtype"],
        training_frames=meta["training_frames"],
        moments=np.array(meta["moments"]),
        clips=clips.replace_schema_metadata(),
    )


def write_info(
    location: str,
    shards: Sequence[Shard],
    settings: LogMelSettings,
    vocabulary: Vocabulary,
    manifest: str,
) -> StoreInfo:
    """Write ``features.json``: from then on the store can be read.

    Args:
        location: Directory of the store.
        shards: All of the store, at least one; no clip may be in two of them.
        settings: How the spectrograms were made.
        vocabulary: Instruments, in the order of the labels.
        manifest: Fingerprint of the manifest that was extracted.
    """
    frames = sum(shard.training_frames for shard in shards)
    total = np.sum([shard.moments for shard in shards], axis=0)
    mean, square = total / max(frames, 1)
    # A band that never moves would otherwise be divided by zero.
    std = np.sqrt(np.maximum(square - mean**2, 1e-6)) if frames else np.ones(len(mean))
    clips = Counter(part for shard in shards for part in shard.clips.column("part").to_pylist())
    info = StoreInfo(
        settings=settings,
        vocabulary=vocabulary,
        fingerprint=fingerprint(settings, vocabulary),
        manifest=manifest,
        clips=dict(clips),
        frames=sum(pc.sum(shard.clips.column("frames")).as_py() for shard in shards),
        shards=[shard.name for shard in shards],
        mean=mean.tolist(),
        std=std.tolist(),
    )
    content = {
        "format": FORMAT,
        "fingerprint": info.fingerprint,
        "manifest": info.manifest,
        "settings": info.settings.model_dump(),
        "instruments": dict(zip(info.vocabulary.codes, info.vocabulary.names, strict=True)),
        "clips": info.clips,
        "frames": info.frames,
        "shards": info.shards,
        "mean": info.mean,
        "std": info.std,
    }
    storage.write_json(storage.join(location, INFO), content)
    return info


def read_info(location: str) -> StoreInfo:
    """Read ``features.json``.

    Raises:
        IrmasError: There is no finished store at ``location``, or one of another format.
    """
    place = storage.join(location, INFO)
    if not storage.exists(place):
        raise IrmasError(f"{location} is not a finished feature store; make one: irmas extract")
    content = storage.read_json(place)
    if content.get("format") != FORMAT:
        raise IrmasError(
            f"{place} has format {content.get('format')}, this version reads {FORMAT}; "
            "extract again into another directory"
        )
    return StoreInfo(
        settings=LogMelSettings(**content["settings"]),
        vocabulary=Vocabulary.of(content["instruments"]),
        fingerprint=content["fingerprint"],
        manifest=content["manifest"],
        clips=content["clips"],
        frames=content["frames"],
        shards=content["shards"],
        mean=content["mean"],
        std=content["std"],
    )
