"""The difference between a manifest and a feature store: what remains to be done.

A stored clip is kept while the manifest has it with the same audio (``md5``). If only its part,
group or labels have changed, its row is rewritten without computing the spectrogram again; a clip
that has left the manifest, or whose audio has changed, leaves the store. Whole columns are
compared at once, so that a million rows take seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist.features.store import (
    REJECTS_SCHEMA,
    SHARD_SCHEMA,
    Shard,
    label_array,
    label_lists,
)
from irmas_dist.instruments import SoftLabels, Vocabulary

MANIFEST = "manifest"
LABELS = "labels"
FILE = "file"
AUDIO = "audio"
"""Where a problem was found. What is wrong with a file, that it is missing, unreadable, or
changed since it was indexed, may pass without a change of its audio."""


@dataclass(frozen=True)
class StoreDiff:
    """What an extraction has to do.

    Attributes:
        pending: Rows of the manifest to compute.
        rewrites: Shards to rewrite, each with the clips it keeps, as `rewrite_shard` takes them;
            a shard that keeps none is to be deleted.
        rejects: Clips that cannot be used and are not tried, with the columns of `REJECTS_SCHEMA`.
    """

    pending: pa.Table
    rewrites: list[tuple[Shard, pa.Table]]
    rejects: pa.Table


def diff_store(
    manifest: pa.Table, shards: Sequence[Shard], rejects: pa.Table, vocabulary: Vocabulary
) -> StoreDiff:
    """Compare a manifest with what has been computed.

    Of a clip in several shards the first one is kept. From earlier ``rejects`` only problems of
    files and audio are taken, and only while the file is the same.
    """
    labels, unknown = encode_labels(manifest, vocabulary)
    problems = pc.coalesce(manifest.column("problem").combine_chunks(), unknown)
    usable = pc.is_null(problems).to_numpy(zero_copy_only=False)
    # All shards at once, since each look-up of clips scans the whole manifest.
    clips = pa.concat_tables([SHARD_SCHEMA.empty_table(), *(shard.clips for shard in shards)])
    indices, unchanged = _compare(clips, manifest, labels, usable)
    rewrites = []
    start = 0
    for shard in shards:
        end = start + shard.clips.num_rows
        if not unchanged[start:end].all():
            kept = np.flatnonzero(indices[start:end] >= 0)
            rows = indices[start:end][kept]
            table = manifest.select(["part", "group"]).take(pa.array(rows))
            encoded = label_lists(labels[rows])
            table = table.append_column("row", pa.array(kept)).append_column("labels", encoded)
            rewrites.append((shard, table))
        start = end

    pending = usable.copy()
    pending[indices[indices >= 0]] = False
    # Problems of the manifest and the labels are found again, which costs little.
    known = rejects.filter(pc.is_in(rejects.column("found_in"), pa.array([FILE, AUDIO])))
    indices = _same_audio(known, manifest, pending)
    known = known.filter(pa.array(indices >= 0))
    pending[indices[indices >= 0]] = False
    unusable = manifest.filter(pa.array(~usable))
    in_manifest = pc.is_valid(unusable.column("problem"))
    found = pa.table(
        [
            unusable.column("clip_id"),
            unusable.column("md5"),
            problems.filter(pa.array(~usable)),
            pc.if_else(in_manifest, MANIFEST, LABELS),
        ],
        schema=REJECTS_SCHEMA,
    )
    return StoreDiff(
        pending=manifest.filter(pa.array(pending)),
        rewrites=rewrites,
        rejects=pa.concat_tables([found, known]),
    )


def encode_labels(manifest: pa.Table, vocabulary: Vocabulary) -> tuple[SoftLabels, pa.Array]:
    """Return the labels of every row, shape (rows, instruments), and its problem.

    The problem is null unless the vocabulary lacks an instrument.
    """
    labels = np.zeros((manifest.num_rows, len(vocabulary)), np.float32)
    problems: list[str | None] = [None] * manifest.num_rows
    # Soft ones last: they say more than what is listed among the instruments too.
    for name, value in (("instruments", 1.0), ("unknown", np.nan), ("soft", None)):
        lists = manifest.column(name).combine_chunks()
        codes = lists.flatten()
        if value is None:
            codes, values = codes.flatten()
            value = values.to_numpy()
        rows = pc.list_parent_indices(lists).to_numpy()
        columns = pc.index_in(codes, pa.array(vocabulary.codes)).fill_null(-1).to_numpy()
        known = columns >= 0
        labels[rows[known], columns[known]] = np.broadcast_to(value, known.shape)[known]
        for index in np.flatnonzero(~known):
            code = codes[index].as_py()
            problems[rows[index]] = f"labels: no instrument {code!r} in this recipe (--config)"
    return labels, pa.array(problems, pa.string())


def _same_audio(
    table: pa.Table, manifest: pa.Table, wanted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return each clip's row in the manifest, -1 if it is not wanted or has other audio."""
    if not manifest.num_rows:
        return np.full(table.num_rows, -1)
    ids = manifest.column("clip_id")
    rows = pc.index_in(table.column("clip_id"), ids).fill_null(-1).to_numpy().astype(np.int64)
    md5 = manifest.column("md5").take(pa.array(np.maximum(rows, 0)))
    same = pc.equal(table.column("md5").fill_null(""), md5.fill_null("")).to_numpy()
    return np.where((rows >= 0) & wanted[rows] & same, rows, -1)


def _compare(
    clips: pa.Table,
    manifest: pa.Table,
    labels: SoftLabels,
    wanted: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Compare the clips of all shards, one shard after the other, with the manifest.

    Returns:
        The row of each clip in the manifest, -1 for clips that are not kept, and whether it is
        kept unchanged; both of shape (clips,).
    """
    rows = _same_audio(clips, manifest, wanted)
    repeated = np.ones(len(rows), bool)
    repeated[np.unique(rows, return_index=True)[1]] = False
    rows[repeated] = -1
    unchanged = rows >= 0
    new = manifest.select(["part", "group"]).take(pa.array(rows[unchanged]))
    new_labels = labels[rows[unchanged]]
    old = clips.filter(pa.array(unchanged))
    old_labels = label_array(old.column("labels")).reshape(new_labels.shape)
    same = ((old_labels == new_labels) | (np.isnan(old_labels) & np.isnan(new_labels))).all(axis=1)
    for name in new.column_names:
        same &= pc.equal(old.column(name), new.column(name)).fill_null(False).to_numpy()
    unchanged[unchanged] = same
    return rows, unchanged
