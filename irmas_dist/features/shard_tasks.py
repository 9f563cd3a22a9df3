"""The tasks of an extraction: each computes rows of the manifest and writes them as a shard."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.audio import decoding, local_file
from irmas_dist.corpus.facts import has_changed
from irmas_dist.errors import AudioError, IrmasError, UnavailableFileError
from irmas_dist.features.diff import AUDIO, FILE, encode_labels
from irmas_dist.features.logmel import log_mel
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
    for clip, known in zip(block.to_pylist(), lists, strict=True):

        def note(text: str, clip_id: str = clip["clip_id"]) -> None:
            notes.append((clip_id, text))

        try:
            with decoding(), local_file(clip["path"]) as path:
                span = clip["start_s"] or 0.0, clip["end_s"]
                if has_changed(clip["path"], path, span, clip):
                    raise UnavailableFileError("has changed since it was indexed: index again")
                mel = log_mel(path, settings, note=note, span=span)
        except AudioError as error:
            found_in = FILE if isinstance(error, UnavailableFileError) else AUDIO
            rejects.append({**clip, "problem": str(error), "found_in": found_in})
        else:
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


class ShardComputer:
    """`compute_shard` as an actor of Ray Data, constructed with all but the block."""

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments

    def __call__(self, block: pa.Table) -> pa.Table:
        """Compute a block of the manifest and write it as a shard."""
        return compute_shard(block, **self._arguments)
