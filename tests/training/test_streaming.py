"""Streamed clips are those of their shards, in pools, in an order that is drawn."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from irmas_dist.config.features import LogMelSettings
from irmas_dist.errors import IrmasError
from irmas_dist.features import store
from irmas_dist.features.clips import Clips, StreamedStore
from irmas_dist.instruments import Vocabulary
from irmas_dist.training.streaming import _read_shard, stream

BANDS = 8
SHARDS = [[f"{shard}{clip}" for clip in "abc"] for shard in "xyz"]


def logmel(clip: str) -> np.ndarray:
    """Return a clip's spectrogram: 2 to 4 frames, which are its own."""
    frames = 2 + "abc".index(clip[1])
    first = 100 * "xyz".index(clip[0]) + 10 * frames
    return np.tile(np.arange(first, first + frames), (BANDS, 1)).astype(np.float16)


@pytest.fixture
def location(tmp_path: Path) -> str:
    """A store of three shards of three clips."""
    out = str(tmp_path)
    for clips in SHARDS:
        rows = [
            {"clip_id": clip, "md5": "0", "part": "training", "group": clip[0]}
            | {"labels": [int(clip[1] == "a"), 1], "logmel": logmel(clip)}
            for clip in clips
        ]
        store.write_shard(out, rows, "f")
    shards = store.read_shards(out, store.shard_names(out))
    vocabulary = Vocabulary.of({"a": "A", "b": "B"})
    store.write_info(out, shards, LogMelSettings(bands=BANDS, dtype="float16"), vocabulary, "m")
    return out


def pools(location: str, clips: set[str], sizes: list[int], seed: int = 0) -> list[Clips]:
    streamed = StreamedStore(location, store.read_info(location).identity, frozenset(clips))
    return list(stream(streamed, sizes, np.random.default_rng(seed)))


ALL = {clip for shard in SHARDS for clip in shard}


@pytest.mark.ray
def test_pools_have_the_sizes_asked_for_across_shards(location: str, ray_cluster: None) -> None:
    found = pools(location, ALL, [4, 5])
    assert [len(pool) for pool in found] == [4, 5]
    assert sorted(clip for pool in found for clip in pool.clip_ids) == sorted(ALL)


def test_a_store_that_was_extracted_again_is_refused(location: str) -> None:
    """Of other clips, labels or settings, which would be learnt without a word."""
    other = StreamedStore(location, "another", frozenset(ALL))
    with pytest.raises(IrmasError, match="was extracted again while it is learnt: train a new"):
        next(stream(other, [9], np.random.default_rng(0)))


@pytest.mark.ray
def test_clips_are_as_stored_and_only_the_wanted_ones(location: str, ray_cluster: None) -> None:
    (pool,) = pools(location, {"xa", "yb", "yc"}, [3])
    assert pool.clip_ids == ["xa", "yb", "yc"]
    assert pool.labels.tolist() == [[1, 1], [0, 1], [0, 1]]
    for clip, first, length in zip(pool.clip_ids, pool.starts, pool.lengths, strict=True):
        np.testing.assert_array_equal(pool.frames[first : first + length], logmel(clip).T)


@pytest.mark.ray
def test_shards_are_read_in_the_order_that_is_drawn(location: str, ray_cluster: None) -> None:
    names = store.read_info(location).shards
    shards = {
        shard.name: shard.clips.column("group")[0].as_py()
        for shard in store.read_shards(location, names)
    }
    for seed in (0, 1):
        order = np.random.default_rng(seed).permutation(3)
        read = [pool.groups[0] for pool in pools(location, ALL, [3, 3, 3], seed)]
        assert read == [shards[names[index]] for index in order]


def test_a_shard_is_read_without_the_clips_that_are_not_wanted(location: str) -> None:
    path = str(Path(location) / store.read_info(location).shards[0])
    shard = pa.table({"path": [path]})
    every = _read_shard(shard, pa.array(sorted(ALL))).column("clip_id").to_pylist()
    assert len(every) == 3
    some = _read_shard(shard, pa.array(every[1:]))
    assert some.column("clip_id").to_pylist() == every[1:]
    assert not some.schema.metadata  # which differ between shards, so that pools could not form
