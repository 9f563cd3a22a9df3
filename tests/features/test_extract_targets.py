"""Extraction to a full disk, to a read-only one, and to an object store."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from irmas_dist import storage
from irmas_dist.cli.main import run
from irmas_dist.config.recipe import Recipe
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import SCHEMA, write_manifest
from irmas_dist.errors import IrmasError
from irmas_dist.features import store
from irmas_dist.features.clips import read_clips
from irmas_dist.features.extract import extract
from irmas_dist.features.logmel import log_mel
from tests.conftest import CONFIGS
from tests.small_disks import mounted

CLIPS = 24


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "pia").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(CLIPS):
        noise = 0.3 * rng.standard_normal(22_050 * 3)
        soundfile.write(tmp_path / "tree" / "pia" / f"[pia] #{number}.wav", noise, 22_050)
    write_manifest(tmp_path / "m.parquet", index_tree(tmp_path / "tree"))
    return tmp_path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with space for some of the shards."""
    with mounted(tmp_path / "disk", "256k") as disk:
        yield disk


@pytest.mark.usefixtures("ray_cluster")
def test_a_full_disk_is_one_line_and_finished_shards_are_kept(
    corpus: Path, small_disk: Path, recipe: Recipe
) -> None:
    def run() -> None:
        extract(
            str(corpus / "m.parquet"),
            str(small_disk / "store"),
            recipe.features,
            recipe.corpus.vocabulary,
            shard_seconds=9,
        )

    with pytest.raises(IrmasError, match=r"part-\w+\.parquet: .*No space left on device") as error:
        run()
    assert "\n" not in str(error.value)
    kept = store.shard_names(str(small_disk / "store"))
    assert kept
    for name in kept:
        pq.read_table(small_disk / "store" / name)
    assert not list(small_disk.rglob("*.partial"))
    assert not (small_disk / "store" / "features.json").exists()

    before = {name: (small_disk / "store" / name).stat().st_mtime_ns for name in kept}
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    run()
    assert {name: (small_disk / "store" / name).stat().st_mtime_ns for name in kept} == before
    assert store.read_info(str(small_disk / "store")).clips == {"training": CLIPS}


def test_a_read_only_target_is_refused_before_anything_is_computed(
    corpus: Path, small_disk: Path, recipe: Recipe
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(IrmasError, match="Read-only file system") as error:
        extract(
            str(corpus / "m.parquet"),
            str(small_disk / "store"),
            recipe.features,
            recipe.corpus.vocabulary,
        )
    assert "\n" not in str(error.value)


def test_manifest_audio_and_store_may_all_be_in_an_object_store(
    corpus: Path, bucket: str, recipe: Recipe
) -> None:
    names = [name for name in SCHEMA.names if name != "modified_ns"]
    rows = [{name: row.get(name) for name in names} for row in index_tree(corpus / "tree")]
    local = {row["clip_id"]: row["path"] for row in rows}
    for path in local.values():
        with storage.write_atomically(f"{bucket}/audio/pia/{Path(path).name}") as stream:
            stream.write(Path(path).read_bytes())
    manifest, out = f"{bucket}/m.parquet", f"{bucket}/a/store"
    bands = f"features.bands={recipe.features.bands}"
    settings = ("--config", str(CONFIGS / "demo.yaml"), "--set", bands)

    def irmas(*arguments: str) -> dict[str, object]:
        """Run a command beside the tests' Ray, whose workers do not know the store."""
        command = [sys.executable, "-m", "irmas_dist", *arguments, "--json"]
        done = subprocess.run(command, cwd=corpus, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert run(["index", f"{bucket}/audio", "--out", manifest]) == 0
    indexed = storage.read_table(manifest, names).to_pylist()
    assert indexed == [
        {**row, "path": f"{bucket}/audio/pia/{Path(row['path']).name}"} for row in rows
    ]
    first = irmas("extract", manifest, out, *settings)
    assert (first["clips"], first["computed"], first["rejects"]) == (CLIPS, CLIPS, {})
    assert extract(manifest, out, recipe.features, recipe.corpus.vocabulary).computed == 0
    clips = read_clips(out, "training")
    assert clips.clip_ids == sorted(local)
    for index, clip in enumerate(clips.clip_ids):
        start, length = clips.starts[index], clips.lengths[index]
        expected = log_mel(local[clip], recipe.features)
        np.testing.assert_array_equal(clips.frames[start : start + length].T, expected)


def test_a_tree_in_an_object_store_is_indexed_like_a_local_one(corpus: Path, bucket: str) -> None:
    tree = corpus / "tree"
    (tree / "concert" / ".trash").mkdir(parents=True)
    noise = 0.3 * np.random.default_rng(1).standard_normal(8_000)
    for name in ("trio-1", "trio-2", ".hidden", ".trash/cello-1", "Cafe\u0301 #1-1"):
        soundfile.write(tree / "concert" / f"{name}.wav", noise, 8_000)
        (tree / "concert" / f"{name}.txt").write_text("pia\ncel\n")
    (tree / "concert" / "lost-1.txt").write_text("vio\n")
    (tree / "concert" / "README.txt").write_text("nothing\n")
    (tree / "concert" / "torn-1.wav").write_bytes(
        (tree / "concert" / "trio-1.wav").read_bytes()[:99]
    )
    for path in filter(Path.is_file, tree.rglob("*")):
        with storage.write_atomically(f"{bucket}/{path.relative_to(tree)}") as stream:
            stream.write(path.read_bytes())
    found = sorted(index_tree(bucket), key=lambda row: row["path"])
    for row in (local := index_tree(tree)):
        row |= {"path": row["path"].replace(str(tree), bucket), "modified_ns": None}
    assert found == sorted(local, key=lambda row: row["path"])


def test_a_missing_bucket_is_one_line(bucket: str, recipe: Recipe) -> None:
    with pytest.raises(IrmasError) as error:
        extract("s3://nowhere/m.parquet", bucket, recipe.features, recipe.corpus.vocabulary)
    assert "s3://nowhere/m.parquet" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(IrmasError, match=r"^s3://nowhere/tree[: ].*") as error:
        index_tree("s3://nowhere/tree")
    assert "\n" not in str(error.value)
