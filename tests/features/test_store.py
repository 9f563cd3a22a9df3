"""The feature store: its statistics, the type of its spectrograms, and what is refused."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.features import LogMelSettings
from irmas_dist.errors import IrmasError
from irmas_dist.features import store
from irmas_dist.features.clips import read_clips
from irmas_dist.instruments import Vocabulary
from irmas_dist.storage.results import STORE_FILE


def write_store(out: Path, mel: np.ndarray) -> store.StoreInfo:
    """A store of one training clip."""
    row = {"clip_id": "a", "md5": "0", "part": "training", "group": "g", "labels": [1]}
    store.write_shard(str(out), [{**row, "logmel": mel}], "f")
    shards = store.read_shards(str(out), store.shard_names(str(out)))
    logmel = LogMelSettings(bands=len(mel), dtype=mel.dtype.name)
    return store.write_info(str(out), shards, logmel, Vocabulary(("a",), ("A",)), "m")


def test_statistics_are_those_of_the_training_frames(features: str) -> None:
    info = store.read_info(features)
    frames = read_clips(features, "training").frames.astype(np.float64)
    np.testing.assert_allclose(info.mean, frames.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(info.std, frames.std(axis=0), rtol=1e-6)


def test_a_constant_band_has_a_deviation_above_zero(tmp_path: Path) -> None:
    info = write_store(tmp_path, np.full((8, 3), -18.0, np.float16))
    assert info.mean == [-18.0] * 8
    assert min(info.std) > 0


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_spectrograms_keep_the_type_they_were_computed_in(tmp_path: Path, dtype: str) -> None:
    mel = (np.arange(24).reshape(8, 3) / 3).astype(dtype)
    info = write_store(tmp_path, mel)
    np.testing.assert_array_equal(read_clips(str(tmp_path), "training").frames, mel.T)
    stored = pq.read_table(tmp_path / info.shards[0])
    assert stored.column("logmel")[0].as_py() == mel.tobytes()
    [shard] = store.read_shards(str(tmp_path), info.shards)
    assert shard.dtype == dtype


def test_the_info_is_read_as_it_was_written(tmp_path: Path) -> None:
    info = write_store(tmp_path, np.ones((8, 3), np.float16))
    assert store.read_info(str(tmp_path)) == info
    assert (info.clips, info.frames, info.manifest) == ({"training": 1}, 3, "m")


CLIP = {"clip_id": "a", "md5": "0", "part": "training", "group": "g", "labels": [1, 0]}


def identity(out: Path, clips: list[dict[str, Any]], shards: int) -> str:
    """The identity of a store of these clips, spread over some shards."""
    mel = np.ones((8, 3), np.float16)
    for number in range(shards):
        if rows := [{**clip, "logmel": mel} for clip in clips[number::shards]]:
            store.write_shard(str(out), rows, "f")
    found = store.read_shards(str(out), store.shard_names(str(out)))
    vocabulary = Vocabulary(("a", "b"), ("A", "B"))
    return store.write_info(str(out), found, LogMelSettings(bands=8), vocabulary, "m").identity


@settings(max_examples=20)
@given(st.permutations("abcdef"), st.integers(1, 6))
def test_a_store_is_the_same_whatever_its_shards(order: list[str], shards: int) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        clips = [{**CLIP, "clip_id": name} for name in "abcdef"]
        mixed = [{**CLIP, "clip_id": name} for name in order]
        assert identity(Path(one), clips, 1) == identity(Path(other), mixed, shards)


@pytest.mark.parametrize(
    "change",
    [{"labels": [0, 1]}, {"md5": "1"}, {"group": "h"}, {"part": "testing"}, {"clip_id": "c"}],
)
def test_a_store_of_other_content_is_another(change: dict[str, Any], tmp_path: Path) -> None:
    other = {**CLIP, "clip_id": "b"}
    before = identity(tmp_path / "before", [CLIP, other], 1)
    assert identity(tmp_path / "after", [CLIP | change, other], 1) != before


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "features.json").write_text(json.dumps({"format": 3}))
    with pytest.raises(IrmasError, match=r"features\.json has format 3, this version reads \d+"):
        store.read_info(str(tmp_path))


def test_the_fingerprint_depends_on_settings_and_instruments() -> None:
    logmel, instruments = LogMelSettings(), Vocabulary(("a",), ("A",))
    fingerprints = {
        store.settings_fingerprint(logmel, instruments),
        store.settings_fingerprint(LogMelSettings(bands=40), instruments),
        store.settings_fingerprint(logmel, Vocabulary(("b",), ("A",))),
    }
    assert len(fingerprints) == 3


@given(st.integers(0, 5), st.integers(1, 4), st.integers(0, 99))
def test_labels_are_stored_as_they_are_unknown_ones_as_null(
    clips: int, instruments: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 0.25, np.nan], (clips, instruments)).astype(np.float32)
    column = store.label_lists(labels)
    assert column.flatten().null_count == np.isnan(labels).sum()
    read = store.label_array(pa.chunked_array([column]))
    np.testing.assert_array_equal(read.reshape(labels.shape), labels)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"format": store.FORMAT},
        {"format": store.FORMAT, "settings": {"bands": 64}, "instruments": {"a": "A"}},
        {"format": store.FORMAT, "settings": {"bands": "many"}, "instruments": {"a": "A"}},
        {"format": store.FORMAT, "settings": 1, "instruments": 2},
    ],
)
def test_a_damaged_info_is_refused_in_one_line(tmp_path: Path, content: Any) -> None:
    (tmp_path / STORE_FILE).write_text(json.dumps(content))
    with pytest.raises(IrmasError, match=r"features\.json is damaged \(\w+: ") as refused:
        store.read_info(str(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"mean": [0.0] * 3}, "mean: not of 8 bands"),
        ({"mean": "x"}, "mean: not of 8 bands"),
        ({"std": None}, ""),
        ({"std": [float("nan")] * 8}, "std: not of 8 bands"),
        ({"shards": []}, "shards: none"),
        ({"settings": {"hop_length": 0}}, "settings.hop_length: should be greater than"),
    ],
)
def test_an_info_whose_parts_do_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], found: str
) -> None:
    info = {
        "format": store.FORMAT, "settings": {"bands": 8}, "instruments": {"a": "A"},
        "fingerprint": "f", "manifest": "m", "identity": "i", "clips": {"training": 1},
        "frames": 9, "shards": ["part-0.parquet"], "mean": [0.0] * 8, "std": [1.0] * 8,
    }  # fmt: skip
    (tmp_path / STORE_FILE).write_text(json.dumps(info))
    assert store.read_info(str(tmp_path)).frames == 9
    (tmp_path / STORE_FILE).write_text(json.dumps(info | change))
    with pytest.raises(IrmasError, match=rf"features\.json is damaged \(.*{found}"):
        store.read_info(str(tmp_path))


def test_a_shard_of_something_else_is_refused_in_one_line(tmp_path: Path) -> None:
    pq.write_table(store.SHARD_SCHEMA.empty_table(), tmp_path / "part-0.parquet")
    with pytest.raises(IrmasError, match=r"part-0\.parquet is damaged .* delete it, and extract"):
        store.read_shards(str(tmp_path), ["part-0.parquet"])
