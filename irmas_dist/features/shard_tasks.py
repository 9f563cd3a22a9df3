"""The tasks of an extraction: each computes rows of the manifest and writes them as a shard."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import compress, pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.audio import AudioFile, decoding, local_file
from irmas_dist.corpus.facts import changed, span_of
from irmas_dist.errors import AudioError, IrmasError, UnavailableFileError
from irmas_dist.features.diff import AUDIO, FILE, encode_labels
from irmas_dist.features.logmel import LogMel, log_mel
from irmas_dist.features.store import (
    REJECTS_SCHEMA,
    label_lists,
    settings_fingerprint,
    write_shard,
)
from irmas_dist.instruments import Vocabulary

SHARD_SECONDS = 1_800.0
"""Most audio in one shard: about 20 MB of features, and one or two seconds of work, at the
default settings. Short enough for all cores to finish together."""

TASKS_PER_CORE = 4
"""Tasks that a small corpus is split into, so that one slow file does not delay the end."""


def split_into_tasks(pending: pa.Table, shard_seconds: float, cores: float) -> list[pa.Table]:
    """Split rows of a manifest into blocks of equal duration, one for each task.

    A block has at most ``shard_seconds`` of audio, unless a single file is longer; each of the
    ``cores`` gets `TASKS_PER_CORE` blocks if there are enough rows.
    """
    durations = pending.column("duration_s").fill_null(0.0).to_numpy()
    total = float(durations.sum())
    enough = min(int(TASKS_PER_CORE * cores), pending.num_rows)
    count = max(int(np.ceil(total / shard_seconds)), enough, 1)
    before = np.cumsum(durations) - durations
    task = (before * count / total).astype(np.int64) if total else np.arange(len(durations))
    bounds = np.flatnonzero(np.diff(task, prepend=-1, append=-2))
    # In one chunk, since every `take` from several chunks combines them first.
    pending = pending.combine_chunks()
    # Copies: a slice would be sent with the whole table.
    return [pending.take(pa.array(np.arange(low, high))) for low, high in pairwise(bounds)]


def compute_shard(
    block: pa.Table, out: str, settings: LogMelSettings, vocabulary: Vocabulary
) -> pa.Table:
    """Compute a block of the manifest and write it as a shard of the store ``out``.

    Returns:
        One row: ``clips``, ``seconds`` of audio and ``bytes`` written, ``rejects`` as in
        `REJECTS_SCHEMA`, ``notes`` on what is unusual of usable clips, by ``clip_id``, and
        ``failure``, the reason why the shard could not be written. It is returned, not raised:
        Ray would wrap it in a traceback.
    """
    rows: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    notes: list[tuple[str, str]] = []
    labels, _ = encode_labels(block, vocabulary)
    lists = label_lists(labels).to_pylist()
    clips = block.to_pylist()
    by_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for clip in clips:
        by_file[clip["path"]].append(clip)
    computed: dict[str, LogMel | AudioError] = {}
    for location, of_file in by_file.items():
        computed |= _compute_file(location, of_file, settings, notes)
    for clip, known in zip(clips, lists, strict=True):
        match computed[clip["clip_id"]]:
            case AudioError() as error:
                found_in = FILE if isinstance(error, UnavailableFileError) else AUDIO
                rejects.append({**clip, "problem": str(error), "found_in": found_in})
            case mel:
                rows.append({**clip, "labels": known, "logmel": mel})
    size, failure = 0, None
    if rows:
        try:
            size = write_shard(out, rows, settings_fingerprint(settings, vocabulary))
        except IrmasError as error:
            failure = str(error)
    return pa.table(
        {
            "clips": pa.array([len(rows)], pa.int64()),
            "seconds": pa.array([sum(row["duration_s"] or 0.0 for row in rows)], pa.float64()),
            "bytes": pa.array([size], pa.int64()),
            "rejects": pa.array([rejects], pa.list_(pa.struct(list(REJECTS_SCHEMA)))),
            "notes": pa.array([notes], pa.map_(pa.string(), pa.string())),
            "failure": pa.array([failure], pa.string()),
        }
    )


def _compute_file(
    location: str,
    clips: Sequence[dict[str, Any]],
    settings: LogMelSettings,
    notes: list[tuple[str, str]],
) -> dict[str, LogMel | AudioError]:
    """Compute the clips of one file, which is fetched and looked through once.

    Args:
        location: Path or URL of the file.
        clips: Their rows of the manifest.
        settings: What to compute.
        notes: Those on these clips are added.

    Returns:
        By ``clip_id``, the spectrogram or why there is none.
    """
    computed: dict[str, LogMel | AudioError] = {}
    try:
        with decoding(), local_file(location) as path:
            differ = changed(location, path, clips)
            for clip in compress(clips, differ):
                computed[clip["clip_id"]] = UnavailableFileError(
                    "has changed since it was indexed: index again"
                )
            if all(differ):
                return computed
            with AudioFile(path) as file:
                # In order: in some files a span is reached only by decoding all before it.
                same = (clip for clip in clips if clip["clip_id"] not in computed)
                for clip in sorted(same, key=lambda clip: span_of(clip)[0]):
                    clip_id: str = clip["clip_id"]

                    def note(text: str, clip_id: str = clip_id) -> None:
                        notes.append((clip_id, text))

                    file.select(span_of(clip))
                    try:
                        with decoding():
                            computed[clip_id] = log_mel(file, settings, note=note)
                    except AudioError as error:
                        computed[clip_id] = error
    except AudioError as error:
        for clip in clips:
            computed.setdefault(clip["clip_id"], error)
    return computed


class ShardComputer:
    """`compute_shard` as an actor of Ray Data, constructed with all but the block."""

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments

    def __call__(self, block: pa.Table) -> pa.Table:
        """Compute a block of the manifest and write it as a shard."""
        return compute_shard(block, **self._arguments)
