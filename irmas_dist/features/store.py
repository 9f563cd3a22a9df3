"""The feature store: Parquet shards of log-mel spectrograms, and their statistics.

One row per clip. ``logmel`` holds the bytes of a (bands, frames) array in row-major order: as a
list column, Parquet would take ten times as long to write and seven times to read.

A shard is named after its clips, carries the fingerprint of the settings, and is written
atomically. ``features.json`` is written last and lists the shards of the store: a file that a
process believed dead writes later does not belong to it.
"""

import fnmatch
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
from pydantic import ValidationError

from irmas_dist import storage
from irmas_dist.config.base import differences, first_problem
from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.manifest import TRAINING
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import SoftLabels, Vocabulary
from irmas_dist.storage.results import STORE_FILE, found_instead

FORMAT = 6
"""Format of the store; part of every fingerprint."""

SHARD_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("md5", pa.string()),
        ("part", pa.string()),
        ("group", pa.string()),
        ("labels", pa.list_(pa.float32())),
        ("frames", pa.int32()),
    ]
)
"""Columns of a shard besides ``logmel``, which is binary. ``labels`` are null where unknown.
``md5`` is the audio file's: a clip whose file has changed is computed again."""

REJECTS_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("clip_id", "md5", "problem", "found_in")]
)
"""Columns of ``rejects.parquet``. ``found_in`` is the manifest, the labels, the file
(missing, unreadable, or changed since it was indexed) or the audio."""

REJECTS = "rejects.parquet"
PENDING_REJECTS = "rejects-pending.parquet"
"""Rejects of an extraction into a finished store, until it has succeeded."""

READERS = 16
"""Shards whose metadata are read at once: an object store answers each request with a delay."""

_META = b"irmas_dist"


@dataclass(frozen=True)
class Shard:
    """The content of a shard without the spectrograms.

    Attributes:
        name: File name.
        fingerprint: Digest of the settings it was computed with.
        dtype: Type of its spectrograms.
        training_frames: Number of frames of its training clips.
        moments: Sum and sum of squares of these frames per band, shape (2, bands).
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
    """The content of ``features.json``, which every finished store has.

    Attributes:
        settings: Settings of the spectrograms.
        vocabulary: The instruments, in the order of the labels.
        fingerprint: Digest of the settings, the vocabulary and the format.
        manifest: Fingerprint of the manifest that was extracted.
        identity: Digest of the content: settings, and of each clip its audio, labels, group and
            part. What was made from a store is proved by it to come from this one.
        clips: Number of clips by part.
        frames: Total number of frames.
        shards: File names of the shards that make up the store, sorted.
        mean: Per-band mean over the frames of the training clips, shape (bands,).
        std: Per-band standard deviation over the same frames, shape (bands,).
    """

    settings: LogMelSettings
    vocabulary: Vocabulary
    fingerprint: str
    manifest: str
    identity: str
    clips: dict[str, int]
    frames: int
    shards: list[str]
    mean: list[float]
    std: list[float]

    @property
    def digests(self) -> dict[str, str]:
        """What is recorded in everything that is made from the store."""
        return {"manifest": self.manifest, "features": self.fingerprint, "store": self.identity}

    def differences(self, settings: LogMelSettings, vocabulary: Vocabulary) -> str:
        """Return how the store differs from settings and instruments; empty if it does not."""
        differ = [text] if (text := differences(self.settings, settings)) else []
        if self.vocabulary.codes != vocabulary.codes:
            ours, theirs = (", ".join(one.codes) for one in (self.vocabulary, vocabulary))
            differ.append(f"instruments {ours} rather than {theirs}")
        return ", ".join(differ)


def settings_fingerprint(settings: LogMelSettings, vocabulary: Vocabulary) -> str:
    """Return the digest of settings, vocabulary and format, recorded in every shard."""
    content = json.dumps([FORMAT, settings.model_dump(), vocabulary.codes], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write_shard(location: str, rows: Sequence[dict[str, Any]], fingerprint: str) -> int:
    """Write clips as one shard, named after their identities, and return its size in bytes.

    A row has the columns of a shard; ``logmel`` is an array of shape (bands, frames).
    """
    digest = hashlib.sha256("\n".join(f"{row['clip_id']} {row['md5']}" for row in rows).encode())
    return _write(location, f"part-{digest.hexdigest()[:16]}.parquet", rows, fingerprint)


def rewrite_shard(location: str, shard: Shard, kept: pa.Table) -> None:
    """Replace a shard by a selection of its clips with updated labels, part and group.

    The table ``kept`` has ``row`` (index in the shard), ``part``, ``group`` and ``labels`` of the
    clips to keep. A shard that keeps none is deleted.
    """
    path = storage.join(location, shard.name)
    if not kept.num_rows:
        storage.remove(path)
        return
    stored = storage.read_table(path).take(kept.column("row"))
    rows = [
        {**old, **new, "logmel": logmel_array(mel, old["frames"], shard.dtype)}
        for old, new, mel in zip(
            stored.select(["clip_id", "md5", "frames"]).to_pylist(),
            kept.to_pylist(),
            stored.column("logmel"),
            strict=True,
        )
    ]
    # Under the same name, so that no clip is ever in two shards.
    _write(location, shard.name, rows, shard.fingerprint)


def _write(location: str, name: str, rows: Sequence[dict[str, Any]], fingerprint: str) -> int:
    mels = [row["logmel"] for row in rows]
    training = [row["logmel"] for row in rows if row["part"] == TRAINING]
    moments = sum((_moments(mel) for mel in training), np.zeros((2, len(mels[0]))))
    meta = {
        "fingerprint": fingerprint,
        "dtype": mels[0].dtype.name,
        "training_frames": sum(mel.shape[1] for mel in training),
        "moments": moments.tolist(),
    }
    clips = [{**row, "frames": mel.shape[1]} for row, mel in zip(rows, mels, strict=True)]
    table = pa.Table.from_pylist(clips, SHARD_SCHEMA.with_metadata({_META: json.dumps(meta)}))
    table = table.append_column("logmel", pa.array([mel.tobytes() for mel in mels], pa.binary()))
    path = storage.join(location, name)
    # Spectrograms hardly compress: any of these would only cost time.
    storage.write_table(
        path, table, use_dictionary=False, write_statistics=False, compression="none"
    )
    return storage.size(path)


def logmel_array(
    value: pa.BinaryScalar, frames: int, dtype: npt.DTypeLike
) -> npt.NDArray[np.float16] | npt.NDArray[np.float32]:
    """Return a value of the column ``logmel`` as a read-only array, shape (bands, frames)."""
    return np.frombuffer(value.as_buffer(), dtype).reshape(-1, frames)


def label_array(column: pa.ChunkedArray) -> SoftLabels:
    """Return the column ``labels`` as an array, shape (clips, instruments)."""
    flat = pc.list_flatten(column).to_numpy().astype(np.float32)  # null becomes NaN
    return flat.reshape(len(column), len(flat) // max(len(column), 1))


def label_lists(labels: SoftLabels) -> pa.Array:
    """Return labels, shape (clips, instruments), as a column of a shard."""
    values = pa.array(labels.ravel(), pa.float32(), from_pandas=True)  # NaN becomes null
    ends = np.arange(len(labels) + 1, dtype=np.int32) * labels.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends), values)


def _moments(mel: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return sum and sum of squares per band, shape (2, bands), of any number of frames."""
    total = np.zeros((2, len(mel)))
    for first in range(0, mel.shape[1], 4_096):
        frames = mel[:, first : first + 4_096].astype(np.float64)
        total += frames.sum(axis=1), np.einsum("bf,bf->b", frames, frames)
    return total


def shard_names(location: str) -> list[str]:
    """Return the file names of the complete shards in a directory, sorted."""
    return fnmatch.filter(storage.list_files(location), "part-*.parquet")


def read_shards(location: str, names: Iterable[str]) -> list[Shard]:
    """Read shards without their spectrograms, in the order of their names."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda name: _read_shard(location, name), sorted(names)))


def _read_shard(location: str, name: str) -> Shard:
    path = storage.join(location, name)
    advice = "delete it, and extract again"
    clips = storage.read_table(path, SHARD_SCHEMA.names, advice)
    with storage.damage_reported(path, advice):
        meta = json.loads(clips.schema.metadata[_META])
        moments = np.array(meta.pop("moments"))
        return Shard(name=name, moments=moments, clips=clips.replace_schema_metadata(), **meta)


def write_info(
    location: str,
    shards: Sequence[Shard],
    settings: LogMelSettings,
    vocabulary: Vocabulary,
    manifest: str,
) -> StoreInfo:
    """Write ``features.json``, which completes a store.

    ``shards`` are all of the store, at least one, without any clip twice; ``manifest`` is the
    fingerprint of the manifest that was extracted.
    """
    frames = sum(shard.training_frames for shard in shards)
    total = np.sum([shard.moments for shard in shards], axis=0)
    mean, square = total / max(frames, 1)
    # Not zero for a constant band, since windows are divided by it.
    std = np.sqrt(np.maximum(square - mean**2, 1e-6)) if frames else np.ones(len(mean))
    fingerprint = settings_fingerprint(settings, vocabulary)
    clips = pa.concat_tables([shard.clips for shard in shards])
    info = StoreInfo(
        settings=settings,
        vocabulary=vocabulary,
        fingerprint=fingerprint,
        manifest=manifest,
        identity=_identity(clips, fingerprint),
        clips=dict(Counter(clips.column("part").to_pylist())),
        frames=pc.sum(clips.column("frames")).as_py(),
        shards=[shard.name for shard in shards],
        mean=mean.tolist(),
        std=std.tolist(),
    )
    instruments = dict(zip(vocabulary.codes, vocabulary.names, strict=True))
    content = {"format": FORMAT, **vars(info), "settings": settings.model_dump()}
    del content["vocabulary"]
    storage.write_json(storage.join(location, STORE_FILE), content | {"instruments": instruments})
    return info


def _identity(clips: pa.Table, settings: str) -> str:
    """Return the digest of a store's content, whatever the shards that its clips lie in."""
    digest = hashlib.sha256(settings.encode())
    for clip in clips.sort_by("clip_id").to_pylist():
        digest.update(repr([clip[name] for name in SHARD_SCHEMA.names]).encode())
    return digest.hexdigest()[:16]


def read_info(location: str) -> StoreInfo:
    """Read ``features.json``.

    Raises:
        IrmasError: ``location`` has no finished feature store, or one of another format.
    """
    path = storage.join(location, STORE_FILE)
    if not storage.exists(path):
        found = found_instead(location)
        found = f": {found}" if found else ""
        raise IrmasError(
            f"{location} is not a finished feature store{found}; make one: irmas extract"
        )
    content = storage.read_json(path)
    advice = "extract again into another directory"
    with storage.damage_reported(path, advice):
        if (found := content.pop("format", None)) != FORMAT:
            raise IrmasError(f"{path} has format {found}, this version reads {FORMAT}; {advice}")
        try:
            settings = LogMelSettings(**content.pop("settings"))
        except ValidationError as error:
            raise ValueError(f"settings.{first_problem(error)}") from error
        vocabulary = Vocabulary.of(content.pop("instruments"))
        info = StoreInfo(settings=settings, vocabulary=vocabulary, **content)
        if not info.shards:
            raise ValueError("shards: none")
        for name, of_bands in (("mean", info.mean), ("std", info.std)):
            if len(of_bands) != settings.bands or not np.isfinite(of_bands).all():
                raise ValueError(f"{name}: not of {settings.bands} bands")
        return info
