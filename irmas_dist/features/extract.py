"""The Ray Data pipeline: a manifest to a feature store.

The manifest is cut into pieces of about half an hour of audio. Each piece is one block of a
Ray data set; the task that maps it decodes, transforms and writes its own shard, so that no
spectrogram travels between processes and whatever was finished stays finished.
"""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from irmas_dist import storage
from irmas_dist.corpus import manifest as manifests
from irmas_dist.errors import IrmasError
from irmas_dist.features import store
from irmas_dist.features.logmel import AudioError, LogMelSettings, log_mel
from irmas_dist.instruments import Vocabulary
from irmas_dist.terminal import progress

SHARD_SECONDS = 1_800.0
"""Audio in one shard: about 20 MB of features at the default settings."""


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did.

    Attributes:
        path: The feature store.
        clips: Clips in the store, earlier ones included.
        computed: Clips computed this time.
        hours: Hours of audio computed this time.
        rejects: Number of unusable files by reason.
        seconds: Wall time.
    """

    path: str
    clips: int
    computed: int
    hours: float
    rejects: dict[str, int]
    seconds: float


def extract(
    manifest: str, out: str, settings: LogMelSettings, vocabulary: Vocabulary
) -> ExtractSummary:
    """Compute the features of every clip in a manifest that the store does not have yet.

    Args:
        manifest: Path or URL of ``manifest.parquet``.
        out: Path or URL of the feature store; made when it is not there.
        settings: How to compute the spectrograms.
        vocabulary: Instruments, in the order of the labels.

    Raises:
        IrmasError: The manifest cannot be read, ``out`` holds features of other settings,
            or not a single file could be used.
    """
    began = time.monotonic()
    table = manifests.read_manifest(manifest)
    print_ = store.fingerprint(settings, vocabulary)
    storage.make_directory(out)
    there = store.stored_clips(out, print_)
    rejects_place = storage.join(out, "rejects.parquet")
    rejects: dict[str, str] = {}
    if storage.exists(rejects_place):
        rejects = {row["clip_id"]: row["problem"] for row in _rows(rejects_place)}
    rows = table.to_pylist()
    rejects |= {row["clip_id"]: row["problem"] for row in rows if row["problem"]}
    pending = [row for row in rows if row["clip_id"] not in there | rejects.keys()]

    cores = ray.cluster_resources().get("CPU", 1)
    blocks = [pa.Table.from_pylist(piece, manifests.SCHEMA) for piece in _cut(pending, cores)]
    with progress("extract", len(pending), "clips") as advance:
        if blocks:
            # Until all are there again, nobody must take the store for whole.
            storage.remove(storage.join(out, "features.json"))
            shards = ray.data.from_arrow(blocks).map_batches(
                _extract_shard,
                batch_size=None,
                batch_format="pyarrow",
                fn_kwargs={
                    "out": storage.absolute(out),
                    "settings": settings,
                    "vocabulary": vocabulary,
                },
            )
            for row in shards.iter_rows():
                advance(row["clips"] + len(row["rejects"]))
                rejects |= {reject["clip_id"]: reject["problem"] for reject in row["rejects"]}

    storage.write_table(
        rejects_place,
        pa.Table.from_pylist(
            [{"clip_id": clip, "problem": why} for clip, why in sorted(rejects.items())],
            schema=store.REJECTS_SCHEMA,
        ),
    )
    info = _finish(out, table, settings, vocabulary, print_)
    used = [row for row in pending if row["clip_id"] not in rejects]
    return ExtractSummary(
        path=out,
        clips=sum(info.clips.values()),
        computed=len(used),
        hours=sum(row["duration_s"] or 0.0 for row in used) / 3600,
        rejects=dict(Counter(rejects.values())),
        seconds=time.monotonic() - began,
    )


def _cut(rows: list[dict[str, Any]], cores: float) -> list[list[dict[str, Any]]]:
    """Cut rows into pieces of at most `SHARD_SECONDS`, and at least one for each core."""
    total = sum(row["duration_s"] or 0.0 for row in rows)
    limit = min(SHARD_SECONDS, max(total / max(cores, 1), 1.0))
    pieces: list[list[dict[str, Any]]] = []
    seconds = limit
    for row in rows:
        if seconds >= limit:
            pieces.append([])
            seconds = 0.0
        pieces[-1].append(row)
        seconds += row["duration_s"] or 0.0
    return pieces


def _extract_shard(
    block: pa.Table, out: str, settings: LogMelSettings, vocabulary: Vocabulary
) -> pa.Table:
    """Compute one block of the manifest, write it as a shard, and tell what became of it."""
    rows, rejects = [], []
    for clip in block.to_pylist():
        try:
            mel = log_mel(clip["path"], settings)
            labels = vocabulary.encode(clip["instruments"])
        except IrmasError as error:
            # Only what is wrong with this one file: the others of the block must not suffer.
            problem = str(error) if isinstance(error, AudioError) else f"labels: {error}"
            rejects.append({"clip_id": clip["clip_id"], "problem": problem})
        else:
            rows.append({**clip, "labels": labels, "logmel": mel})
    if rows:
        store.write_shard(out, rows, store.fingerprint(settings, vocabulary), settings.bands)
    return pa.table(
        {
            "clips": pa.array([len(rows)], pa.int64()),
            "rejects": pa.array([rejects], pa.list_(pa.struct(list(store.REJECTS_SCHEMA)))),
        }
    )


def _finish(
    out: str, table: pa.Table, settings: LogMelSettings, vocabulary: Vocabulary, print_: str
) -> store.StoreInfo:
    """Count what the shards hold and write ``features.json``."""
    clips: Counter[str] = Counter()
    frames = 0
    for name in store.shard_names(out):
        shard = storage.read_table(storage.join(out, name), ["part", "frames"])
        clips.update(shard.column("part").to_pylist())
        frames += sum(shard.column("frames").to_pylist())
    if not clips:
        raise IrmasError(
            f"none of the {table.num_rows} files of the manifest could be used; "
            f"see {storage.join(out, 'rejects.parquet')}"
        )
    mean, std = store.band_statistics(out, settings.bands)
    info = store.StoreInfo(
        settings=settings,
        vocabulary=vocabulary,
        fingerprint=print_,
        manifest=manifests.fingerprint(table),
        clips=dict(clips),
        frames=frames,
        mean=mean,
        std=std,
    )
    store.write_info(out, info)
    return info


def _rows(place: str) -> list[dict[str, Any]]:
    return list(storage.read_table(place).to_pylist())
