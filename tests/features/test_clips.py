"""Clips in memory are those in the shards."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.errors import IrmasError
from irmas_dist.features import store
from irmas_dist.features.clips import Clips, clips_of, read_clips, read_rows


def frames_of(clips: Clips, index: int) -> np.ndarray:
    return clips.frames[clips.starts[index] : clips.starts[index] + clips.lengths[index]]


def test_clips_in_memory_are_those_in_the_shards(features: str, recipe: Recipe) -> None:
    clips = read_clips(features, "testing")
    assert clips.clip_ids == sorted(clips.clip_ids)
    shard = pq.read_table(Path(features, store.shard_names(features)[-1])).to_pylist()
    for row in (row for row in shard if row["part"] == "testing"):
        index = clips.clip_ids.index(row["clip_id"])
        mel = np.frombuffer(row["logmel"], np.float16).reshape(recipe.features.bands, -1)
        np.testing.assert_array_equal(frames_of(clips, index), mel.T)
        np.testing.assert_array_equal(clips.labels[index], row["labels"])


def test_clips_of_rows_are_those_of_the_store_in_the_order_of_their_identities(
    features: str, recipe: Recipe
) -> None:
    columns = [*store.SHARD_SCHEMA.names, "logmel"]
    tables = [rows.slice(0, 5) for rows in read_rows(features, columns, "training")]
    some, clips = clips_of(tables, recipe.features), read_clips(features, "training")
    assert some.clip_ids == sorted(pa.concat_tables(tables).column("clip_id").to_pylist())
    for index, clip_id in enumerate(some.clip_ids):
        same = clips.clip_ids.index(clip_id)
        np.testing.assert_array_equal(frames_of(some, index), frames_of(clips, same))
        np.testing.assert_array_equal(some.labels[index], clips.labels[same])


def test_a_selection_shares_the_frames(features: str) -> None:
    clips = read_clips(features, "training")
    selected = clips.select([4, 1])
    assert selected.frames is clips.frames
    assert selected.clip_ids == [clips.clip_ids[4], clips.clip_ids[1]]
    np.testing.assert_array_equal(frames_of(selected, 0), frames_of(clips, 4))


def test_a_part_without_clips_is_refused(features: str) -> None:
    with pytest.raises(IrmasError, match="holds no validation clips"):
        read_clips(features, "validation")
