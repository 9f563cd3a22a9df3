"""What is to be done: a manifest against the shards and rejects that are there.

A stored clip stays when the manifest still has it with the same audio (``md5``). Where only its
part, group or labels have changed, its row is written anew without computing the spectrogram;
a clip that has left the manifest, or whose audio has changed, leaves the store. Whole columns
are compared at once, so that a million rows take seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist.features.store import REJECTS_SCHEMA, SHARD_SCHEMA, Shard
from irmas_dist.instruments import Vocabulary

MANIFEST = "manifest"
LABELS = "labels"
AUDIO = "audio"
"""What a problem was found in."""


@dataclass(frozen=True)
class Plan:
    """What an extraction has to do.

    Attributes:
        pending: Rows of the manifest to compute.
        rewrites: Shards to write anew, each with its clips that stay, as `rewrite_shard` takes
            them; none stay of a shard that is to be deleted.
        rejects: What cannot be used and will not be tried, with the columns of `REJECTS_SCHEMA`.
    """

    pending: pa.Table
    rewrites: list[tuple[Shard, pa.Table]]
    rejects: pa.Table


def make_plan(
    manifest: pa.Table,
    shards: Sequence[Shard],
    rejects: pa.Table,
    vocabulary: Vocabulary,
) -> Plan:
    """Compare a manifest with what has been computed.

    Args:
        manifest: All clips, with the columns of a manifest.
        shards: What the store holds; a clip may be in several, and stays in the first.
        rejects: Files found to be unusable earlier; only problems of the audio are taken from
            here, and only while the file is the same.
        vocabulary: Instruments, in the order of the labels.
    """
    unknown = _unknown_instruments(manifest, vocabulary)
    problems = pc.coalesce(manifest.column("problem").combine_chunks(), unknown)
    usable = pc.is_null(problems).to_numpy(zero_copy_only=False)
    labels = encode_labels(manifest, vocabulary)
    # All shards at once: to look clips up, the manifest has to be gone through each time.
    clips = pa.concat_tables([SHARD_SCHEMA.empty_table(), *(shard.clips for shard in shards)])
    kept, same = _compare(clips, manifest, labels, usable)
    sizes = [shard.clips.num_rows for shard in shards]
    rewrites = []
    for shard, end, size in zip(shards, np.cumsum(sizes, dtype=np.int64), sizes, strict=True):
        inside = slice(end - size, end)
        if not same[inside].all():
            rewrites.append((shard, _kept_clips(kept[inside], manifest, labels)))

    pending = usable.copy()
    pending[kept[kept >= 0]] = False
    # What the manifest and the labels say is found out anew, for nothing of it is costly.
    known = rejects.filter(pc.equal(rejects.column("found_in"), AUDIO))
    at = _same_audio(known, manifest, pending)
    known = known.filter(pa.array(at >= 0))
    pending[at[at >= 0]] = False
    refused = manifest.filter(pa.array(~usable))
    in_manifest = pc.is_valid(refused.column("problem"))
    found = pa.table(
        [
            refused.column("clip_id"),
            refused.column("md5"),
            problems.filter(pa.array(~usable)),
            pc.if_else(in_manifest, MANIFEST, LABELS),
        ],
        schema=REJECTS_SCHEMA,
    )
    return Plan(
        pending=manifest.filter(pa.array(pending)),
        rewrites=rewrites,
        rejects=pa.concat_tables([found, known]),
    )


def encode_labels(manifest: pa.Table, vocabulary: Vocabulary) -> npt.NDArray[np.uint8]:
    """Return the multi-hot labels of every row, shape (rows, instruments); unknown codes are 0."""
    instruments = manifest.column("instruments").combine_chunks()
    column = pc.index_in(instruments.flatten(), pa.array(vocabulary.codes)).fill_null(-1)
    rows = pc.list_parent_indices(instruments).to_numpy()
    columns = column.to_numpy()
    labels = np.zeros((manifest.num_rows, len(vocabulary)), np.uint8)
    labels[rows[columns >= 0], columns[columns >= 0]] = 1
    return labels


def _unknown_instruments(manifest: pa.Table, vocabulary: Vocabulary) -> pa.Array:
    """Return for every row what is wrong with its instruments, null when nothing is."""
    instruments = manifest.column("instruments").combine_chunks()
    flat = instruments.flatten()
    strange = pc.invert(pc.is_in(flat, pa.array(vocabulary.codes)))
    problems: list[str | None] = [None] * manifest.num_rows
    rows = pc.list_parent_indices(instruments).filter(strange).to_pylist()
    for row, code in zip(rows, flat.filter(strange).to_pylist(), strict=True):
        problems[row] = f"labels: unknown instrument {code!r}"
    return pa.array(problems, pa.string())


def _same_audio(
    table: pa.Table, manifest: pa.Table, wanted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return which row of the manifest each clip is, -1 when it is not wanted with this audio."""
    if not manifest.num_rows:
        return np.full(table.num_rows, -1)
    ids = manifest.column("clip_id")
    at = pc.index_in(table.column("clip_id"), ids).fill_null(-1).to_numpy().astype(np.int64)
    there = np.maximum(at, 0)
    theirs = manifest.column("md5").take(pa.array(there))
    same = pc.equal(table.column("md5").fill_null(""), theirs.fill_null("")).to_numpy()
    return np.where((at >= 0) & wanted[there] & same, at, -1)


def _compare(
    clips: pa.Table,
    manifest: pa.Table,
    labels: npt.NDArray[np.uint8],
    wanted: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Compare the clips of all shards, one shard after the other, with the manifest.

    Returns:
        Where each is in the manifest, -1 for those that do not stay, and which stay as they
        are; both of shape (clips,).
    """
    at = _same_audio(clips, manifest, wanted)
    # Of a clip that is there twice, the first stays.
    twin = np.ones(len(at), bool)
    twin[np.unique(at, return_index=True)[1]] = False
    at[twin] = -1
    same = at >= 0
    rows = at[same]
    theirs = manifest.select(["part", "group"]).take(pa.array(rows))
    mine = clips.filter(pa.array(same))
    stored = mine.column("labels").combine_chunks().flatten().to_numpy()
    as_it_was = (stored.reshape(labels[rows].shape) == labels[rows]).all(axis=1)
    for name in theirs.column_names:
        equal = pc.equal(mine.column(name), theirs.column(name)).fill_null(False)
        as_it_was &= equal.to_numpy()
    same[same] = as_it_was
    return at, same


def _kept_clips(
    at: npt.NDArray[np.int64], manifest: pa.Table, labels: npt.NDArray[np.uint8]
) -> pa.Table:
    rows = np.flatnonzero(at >= 0)
    theirs = manifest.select(["part", "group"]).take(pa.array(at[rows]))
    return pa.table(
        {
            "row": rows,
            "part": theirs.column("part"),
            "group": theirs.column("group"),
            "labels": pa.array(list(labels[at[rows]]), pa.list_(pa.uint8())),
        }
    )
