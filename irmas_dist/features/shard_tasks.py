"""Pieces of a manifest: what one task of an extraction takes, and the shard that it makes of it."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from irmas_dist.errors import IrmasError
from irmas_dist.features import store
from irmas_dist.features.diff import AUDIO
from irmas_dist.features.logmel import AudioError, LogMelSettings, log_mel
from irmas_dist.instruments import Vocabulary

SHARD_SECONDS = 1_800.0
"""Most audio in one shard: about 20 MB of features, and one or two seconds of work, at the
default settings. Short enough for all cores to finish together."""

PIECES_PER_CORE = 4
"""Pieces that a small corpus is cut into, so that one slow file does not hold up the end."""


def cut(
    pending: pa.Table, durations: np.ndarray, shard_seconds: float, cores: float
) -> list[pa.Table]:
    """Cut rows of a manifest into pieces of equal duration.

    Args:
        pending: Rows of a manifest.
        durations: Seconds of audio of each row.
        shard_seconds: Most audio in one piece, but for single files that are longer.
        cores: CPU cores that share the work; each gets `PIECES_PER_CORE` where there are enough
            rows.
    """
    total = float(durations.sum())
    enough = min(int(PIECES_PER_CORE * cores), pending.num_rows)
    count = max(int(np.ceil(total / shard_seconds)), enough, 1)
    before = np.cumsum(durations) - durations
    piece = (before * count / total).astype(np.int64) if total else np.arange(len(durations))
    bounds = np.flatnonzero(np.diff(piece, prepend=-1, append=-2))
    # In one chunk, for taking from several puts them together each time.
    pending = pending.combine_chunks()
    # Copies: of a slice, the whole table would be sent.
    return [pending.take(pa.array(np.arange(low, high))) for low, high in pairwise(bounds)]


def write_piece(
    block: pa.Table, out: str, settings: LogMelSettings, vocabulary: Vocabulary
) -> pa.Table:
    """Compute one block of the manifest, write it as a shard, and tell what became of it.

    Args:
        block: Rows of a manifest.
        out: The feature store.
        settings: How to compute the spectrograms.
        vocabulary: Instruments, in the order of the labels.

    Returns:
        One row: ``clips`` and ``bytes`` written, ``rejects`` as in `store.REJECTS_SCHEMA`, and
        ``failure``, why the shard could not be written. That is told, not raised: Ray would
        wrap it in its own traceback.
    """
    rows: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    for clip in block.to_pylist():
        try:
            mel = log_mel(clip["path"], settings)
        except AudioError as error:
            # Only what is wrong with this one file: the others of the block must not suffer.
            rejects.append(
                {
                    "clip_id": clip["clip_id"],
                    "md5": clip["md5"],
                    "problem": str(error),
                    "found_in": AUDIO,
                }
            )
        else:
            labels = vocabulary.encode(clip["instruments"])
            rows.append({**clip, "labels": labels, "logmel": mel})
    size, failure = 0, None
    if rows:
        try:
            size = store.write_shard(out, rows, store.fingerprint(settings, vocabulary))
        except IrmasError as error:
            failure = str(error)
    return pa.table(
        {
            "clips": pa.array([len(rows)], pa.int64()),
            "bytes": pa.array([size], pa.int64()),
            "rejects": pa.array([rejects], pa.list_(pa.struct(list(store.REJECTS_SCHEMA)))),
            "failure": pa.array([failure], pa.string()),
        }
    )


class PieceWriter:
    """`write_piece` for a pool of actors, which keep where it writes and how."""

    def __init__(self, **target: Any) -> None:
        self._target = target

    def __call__(self, block: pa.Table) -> pa.Table:
        """Compute one block of the manifest, as `write_piece` does."""
        return write_piece(block, **self._target)
