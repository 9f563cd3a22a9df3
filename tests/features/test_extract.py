"""From a manifest to a feature store: complete, computed once, and with every bad file listed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import read_manifest, write_manifest
from irmas_dist.errors import IrmasError
from irmas_dist.features import store
from irmas_dist.features.clips import read_clips
from irmas_dist.features.extract import ExtractSummary, extract
from irmas_dist.features.logmel import log_mel
from irmas_dist.instruments import Vocabulary

pytestmark = pytest.mark.usefixtures("ray_cluster")

TONE = np.sin(np.arange(44_100) / 20).astype(np.float32)


def run(manifest: Path, out: Path, recipe: Recipe, **options: object) -> ExtractSummary:
    return extract(str(manifest), str(out), recipe.features, recipe.corpus.vocabulary, **options)


def test_every_clip_is_stored_once_with_its_spectrogram_and_labels(
    manifest: Path, features: str, recipe: Recipe
) -> None:
    rows = {row["clip_id"]: row for row in read_manifest(manifest).to_pylist()}
    shards = [pq.read_table(Path(features, name)) for name in store.shard_names(features)]
    found = [row for shard in shards for row in shard.to_pylist()]
    assert sorted(row["clip_id"] for row in found) == sorted(rows)
    for row in found[::9]:
        clip = rows[row["clip_id"]]
        expected = log_mel(clip["path"], recipe.features)
        assert row["frames"] == expected.shape[1]
        np.testing.assert_array_equal(np.frombuffer(row["logmel"], np.float16), expected.ravel())
        assert recipe.corpus.vocabulary.decode(row["labels"]) == sorted(clip["instruments"])
        assert (row["part"], row["group"]) == (clip["part"], clip["group"])


def test_a_second_run_computes_nothing(manifest: Path, features: str, recipe: Recipe) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in Path(features).glob("part-*")}
    summary = run(manifest, Path(features), recipe)
    assert summary.computed == 0
    assert {p.name: p.stat().st_mtime_ns for p in Path(features).glob("part-*")} == before


def test_a_store_of_other_settings_is_refused(
    manifest: Path, features: str, recipe: Recipe
) -> None:
    other = recipe.features.model_copy(update={"bands": 40})
    with pytest.raises(IrmasError, match="other features: bands=32 rather than 40"):
        extract(str(manifest), features, other, recipe.corpus.vocabulary)


def test_instruments_that_were_not_looked_for_are_refused_before_anything_is_computed(
    manifest: Path, tmp_path: Path, recipe: Recipe
) -> None:
    more = Vocabulary.of({**recipe.corpus.instruments, "dru": "drums"})
    with pytest.raises(IrmasError, match="was indexed without dru"):
        extract(str(manifest), str(tmp_path / "store"), recipe.features, more)
    assert not list(tmp_path.iterdir())


def undated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out when files were last changed, so that those of the same size pass for the same."""
    return [row | {"modified_ns": None} for row in rows]


def test_a_corrupt_file_is_a_reject_and_files_added_later_are_computed(
    tmp_path: Path, recipe: Recipe
) -> None:
    folder = tmp_path / "tree" / "pia"
    folder.mkdir(parents=True)
    tone = np.sin(np.arange(44_100) / 20).astype(np.float32)
    soundfile.write(folder / "good.wav", tone, 44_100)
    soundfile.write(folder / "bad.wav", tone, 44_100)
    write_manifest(tmp_path / "m.parquet", undated(index_tree(tmp_path / "tree")))
    size = (folder / "bad.wav").stat().st_size
    (folder / "bad.wav").write_bytes(b"RIFF, and then nothing".ljust(size))  # after it was indexed
    summary = run(tmp_path / "m.parquet", tmp_path / "store", recipe, max_rejects=0.5)
    assert (summary.clips, sum(summary.rejects.values())) == (1, 1)
    rejects = pq.read_table(tmp_path / "store" / "rejects.parquet").to_pylist()
    assert rejects[0]["clip_id"] == "pia/bad"
    assert "cannot be decoded" in rejects[0]["problem"]

    soundfile.write(folder / "later.wav", np.stack([tone, -tone], axis=1), 44_100)
    write_manifest(tmp_path / "m.parquet", index_tree(tmp_path / "tree"))
    summary = run(tmp_path / "m.parquet", tmp_path / "store", recipe, max_rejects=0.5)
    assert (summary.clips, summary.computed) == (2, 1)
    note = "its channels cancel each other: the louder, channel 1, is used"
    assert summary.notes == {"pia/later": note}


@pytest.mark.parametrize("change", ["more clips", "fewer clips"])
def test_a_store_that_is_being_changed_is_finished_as_it_was_or_not_at_all(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    (tmp_path / "tree" / "pia").mkdir(parents=True)
    for name in "abc":
        soundfile.write(tmp_path / "tree" / "pia" / f"{name}.wav", TONE, 44_100)
    rows = index_tree(tmp_path / "tree")
    write_manifest(tmp_path / "m.parquet", rows[:2])
    run(tmp_path / "m.parquet", tmp_path / "store", recipe)
    before = store.read_info(str(tmp_path / "store"))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    write_manifest(tmp_path / "m.parquet", rows if change == "more clips" else rows[:1])
    with monkeypatch.context() as patched:
        patched.setattr("irmas_dist.features.store.write_info", die)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "m.parquet", tmp_path / "store", recipe)
    if change == "more clips":
        assert store.read_info(str(tmp_path / "store")) == before
    else:  # Its shards are no longer those that `features.json` describes.
        with pytest.raises(IrmasError, match="not a finished feature store"):
            store.read_info(str(tmp_path / "store"))
    after = run(tmp_path / "m.parquet", tmp_path / "store", recipe)
    assert after.clips == (3 if change == "more clips" else 1)


@pytest.mark.parametrize("found_in", ["manifest", "audio"])
def test_a_refused_extraction_leaves_a_finished_store_as_it_was(
    tmp_path: Path, recipe: Recipe, found_in: str
) -> None:
    (tmp_path / "tree" / "pia").mkdir(parents=True)
    for name in "abc":
        soundfile.write(tmp_path / "tree" / "pia" / f"{name}.wav", TONE, 44_100)
    rows = index_tree(tmp_path / "tree")
    first, out = tmp_path / "first.parquet", tmp_path / "store"
    write_manifest(first, rows[:2])
    run(first, out, recipe)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    # One clip is relabelled and the other leaves; a third cannot be used.
    rows[0]["instruments"] = ["vio"]
    if found_in == "manifest":
        rows[2]["problem"] = "silent"
    else:
        file = tmp_path / "tree" / "pia" / "c.wav"
        file.write_bytes(b"RIFF, and then nothing".ljust(file.stat().st_size))
    write_manifest(tmp_path / "second.parquet", [rows[0], rows[2]])
    with pytest.raises(IrmasError, match="1 of 2 files cannot be used") as refusal:
        run(tmp_path / "second.parquet", out, recipe)
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {name: after.get(name) for name in before} == before
    (reject,) = pq.read_table(str(refusal.value).rpartition("see ")[2]).to_pylist()
    assert reject["clip_id"] == "pia/c"
    assert run(first, out, recipe).rejects == {}, "of the store, not of what was refused"

    summary = run(tmp_path / "second.parquet", out, recipe, max_rejects=0.5)
    assert (summary.clips, summary.computed, sum(summary.rejects.values())) == (1, 0, 1)
    (reject,) = pq.read_table(out / "rejects.parquet").to_pylist()
    assert reject["clip_id"] == "pia/c"
    assert not (out / "rejects-pending.parquet").exists()


def test_files_that_were_away_are_tried_again_by_every_run(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "tree" / "pia").mkdir(parents=True)
    for name in "abc":
        soundfile.write(tmp_path / "tree" / "pia" / f"{name}.wav", TONE, 44_100)
    write_manifest(tmp_path / "m.parquet", index_tree(tmp_path / "tree"))
    (tmp_path / "tree").rename(tmp_path / "away")
    with pytest.raises(IrmasError, match=r"of 3 files cannot be used, .* no such file"):
        run(tmp_path / "m.parquet", tmp_path / "store", recipe)
    (tmp_path / "away").rename(tmp_path / "tree")
    file = tmp_path / "tree" / "pia" / "c.wav"
    file.rename(tmp_path / "c.wav")
    summary = run(tmp_path / "m.parquet", tmp_path / "store", recipe, max_rejects=0.5)
    assert (summary.clips, summary.rejects) == (2, {"no such file": 1})
    (tmp_path / "c.wav").rename(file)
    summary = run(tmp_path / "m.parquet", tmp_path / "store", recipe)
    assert (summary.clips, summary.computed, summary.rejects) == (3, 1, {})


def test_a_manifest_without_usable_files_is_an_error(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "tree" / "pia").mkdir(parents=True)
    (tmp_path / "tree" / "pia" / "bad.wav").write_text("no audio")
    write_manifest(tmp_path / "m.parquet", index_tree(tmp_path / "tree"))
    with pytest.raises(IrmasError, match="none of the 1 files"):
        run(tmp_path / "m.parquet", tmp_path / "store", recipe, max_rejects=1.0)
    with pytest.raises(IrmasError, match="not a finished feature store"):
        store.read_info(str(tmp_path / "store"))


def test_the_store_follows_its_manifest_without_computing_twice(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree" / "pia").mkdir(parents=True)
    for pitch, name in enumerate(("gone", "kept", "relabelled"), start=1):
        tone = np.sin(np.arange(44_100) * pitch / 20).astype(np.float32)
        soundfile.write(tmp_path / "tree" / "pia" / f"{name}.wav", tone, 44_100)
    rows = index_tree(tmp_path / "tree")
    write_manifest(tmp_path / "m.parquet", rows)
    run(tmp_path / "m.parquet", tmp_path / "store", recipe, shard_seconds=2.0)
    before = read_clips(str(tmp_path / "store"), "training")

    rows = [row for row in rows if row["clip_id"] != "pia/gone"]
    rows[1] |= {"instruments": ["vio"], "group": "another", "part": "testing"}
    write_manifest(tmp_path / "m.parquet", rows)
    # Nothing needs Ray any more, so none is started.
    monkeypatch.setattr("irmas_dist.cluster.runtime.ray_running", None)
    summary = run(tmp_path / "m.parquet", tmp_path / "store", recipe)
    assert (summary.clips, summary.computed) == (2, 0)
    kept = read_clips(str(tmp_path / "store"), "training")
    assert kept.clip_ids == ["pia/kept"]
    moved = read_clips(str(tmp_path / "store"), "testing")
    assert (moved.clip_ids, moved.groups) == (["pia/relabelled"], ["another"])
    assert recipe.corpus.vocabulary.decode(moved.labels[0]) == ["vio"]
    start, length = before.starts[2], before.lengths[2]
    np.testing.assert_array_equal(moved.frames, before.frames[start : start + length])
    info = store.read_info(str(tmp_path / "store"))
    np.testing.assert_allclose(info.mean, kept.frames.astype(float).mean(axis=0), rtol=1e-6)

    again = run(tmp_path / "m.parquet", tmp_path / "store", recipe)
    assert (again.clips, again.computed, again.rewritten) == (2, 0, 0)

    names = {**recipe.corpus.instruments, "pia": "grand piano"}
    renamed = build_recipe(recipe.model_dump(), {"corpus.instruments": names}, "the test")
    summary = run(tmp_path / "m.parquet", tmp_path / "store", renamed)
    assert (summary.computed, summary.rewritten) == (0, 0)
    assert "grand piano" in store.read_info(str(tmp_path / "store")).vocabulary.names


def test_a_damaged_shard_is_refused_with_what_to_do(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "tree" / "pia").mkdir(parents=True)
    soundfile.write(tmp_path / "tree" / "pia" / "a.wav", TONE, 44_100)
    write_manifest(tmp_path / "m.parquet", index_tree(tmp_path / "tree"))
    run(tmp_path / "m.parquet", tmp_path / "store", recipe)
    (shard,) = (tmp_path / "store").glob("part-*")
    shard.write_bytes(shard.read_bytes()[:1_000])
    with pytest.raises(IrmasError, match=r"is not a Parquet file: .*; delete it, and extract ag"):
        read_clips(str(tmp_path / "store"), "training")
    with pytest.raises(IrmasError, match=r"is not a Parquet file: .*; delete it, and extract ag"):
        run(tmp_path / "m.parquet", tmp_path / "store", recipe)


def test_too_many_bad_files_end_an_extraction_and_are_listed_as_rejects(
    tmp_path: Path, recipe: Recipe
) -> None:
    (tmp_path / "tree" / "pia").mkdir(parents=True)
    tone = np.sin(np.arange(44_100) / 20).astype(np.float32)
    for name in "abcd":
        soundfile.write(tmp_path / "tree" / "pia" / f"{name}.wav", tone, 44_100, "FLOAT")
    write_manifest(tmp_path / "m.parquet", undated(index_tree(tmp_path / "tree")))
    tone[9] = np.nan
    soundfile.write(tmp_path / "tree" / "pia" / "b.wav", tone, 44_100, "FLOAT")
    with pytest.raises(IrmasError, match=r"1 of 4 files cannot be used, more than the 20\.0%"):
        run(tmp_path / "m.parquet", tmp_path / "store", recipe, max_rejects=0.2)
    (reject,) = pq.read_table(tmp_path / "store" / "rejects.parquet").to_pylist()
    assert (reject["clip_id"], reject["problem"]) == ("pia/b", "holds NaN or infinite samples")
    with pytest.raises(IrmasError, match="not a finished feature store"):
        store.read_info(str(tmp_path / "store"))
    # A repaired file that was not indexed again is tried only with `retry_rejects`.
    assert run(tmp_path / "m.parquet", tmp_path / "store", recipe, max_rejects=0.25).clips == 3
    soundfile.write(tmp_path / "tree" / "pia" / "b.wav", np.ones(44_100), 44_100, "FLOAT")
    assert run(tmp_path / "m.parquet", tmp_path / "store", recipe, max_rejects=0.25).clips == 3
    assert run(tmp_path / "m.parquet", tmp_path / "store", recipe, retry_rejects=True).clips == 4
