"""Interrupted at any moment: every clip is stored once, and no incomplete shard is ever visible."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray  # noqa: F401  (puts the psutil that it brings along on the import path)
import soundfile

from irmas_dist.config.recipe import Recipe, load_recipe
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import read_manifest, write_manifest
from irmas_dist.features import store
from irmas_dist.features.clips import read_clips
from irmas_dist.features.shard_tasks import compute_shard
from tests.conftest import TINY
from tests.waiting import wait_for

# isort: split
import psutil

CLIPS = 96
SHARD_SECONDS = 2.0
"""Two clips per shard: 48 tasks, so that a random moment falls among them."""

PROGRAM = """
import sys
from irmas_dist.config.recipe import load_recipe
from irmas_dist.features.extract import extract
manifest, out, address, *overrides = sys.argv[1:]
recipe = load_recipe(None, overrides)
if address == "two nodes":
    import ray
    from ray.cluster_utils import Cluster
    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    started = (one for several in node.all_processes.values() for one in several)
    print("node", *(one.process.pid for one in started), flush=True)
else:
    import ray
    ray.init(address="local", num_cpus=2, include_dashboard=False)
print("up", flush=True)
summary = extract(manifest, out, recipe.features, recipe.corpus.vocabulary, shard_seconds=2.0)
print("done", summary.clips, flush=True)
"""
OVERRIDES = [override for override in TINY if override.startswith("features.")]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(None, OVERRIDES)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "tree" / "pia").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(CLIPS):
        noise = 0.3 * rng.standard_normal(22_050)
        soundfile.write(folder / "tree" / "pia" / f"{number:03}.wav", noise, 22_050)
    write_manifest(folder / "m.parquet", index_tree(folder / "tree"))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path, recipe: Recipe) -> list[dict[str, Any]]:
    """The rows of a store that was computed without interruption and without Ray."""
    out = str(corpus / "uninterrupted")
    manifest = read_manifest(corpus / "m.parquet")
    compute_shard(manifest, out, recipe.features, recipe.corpus.vocabulary)
    return rows(Path(out), store.shard_names(out))


def rows(out: Path, names: list[str]) -> list[dict[str, Any]]:
    table = pa.concat_tables(pq.read_table(out / name) for name in names)
    return table.sort_by("clip_id").to_pylist()


@contextmanager
def reader(out: Path) -> Iterator[None]:
    """Read the visible files repeatedly; half a shard, or a clip twice, is an error."""
    stop, wrong = threading.Event(), []

    def poll() -> None:
        while not stop.is_set():
            try:
                for path in out.glob("part-*.parquet"):
                    pq.read_table(path)
                if (out / "features.json").exists():
                    clips = read_clips(str(out), "training").clip_ids
                    assert len(clips) == len(set(clips)) == CLIPS
            except Exception as error:  # noqa: BLE001 - any error of a reader counts
                wrong.append(error)
            time.sleep(0.02)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not wrong


@contextmanager
def extraction(corpus: Path, out: Path, where: str = "") -> Iterator[subprocess.Popen[str]]:
    """Extract in a process of its own; at the end, all its remaining child processes are killed."""
    arguments = [str(corpus / "m.parquet"), str(out), where, *OVERRIDES]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True
    ) as driver:
        family: list[psutil.Process] = []
        try:
            yield driver
        finally:
            if driver.poll() is None:
                family = psutil.Process(driver.pid).children(recursive=True)
                driver.kill()
            kill(family)


def kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def shards_in(out: Path) -> int:
    return len(list(out.glob("part-*.parquet")))


def wait_until_some(out: Path, driver: subprocess.Popen[str], shards: int) -> None:
    wait_for(lambda: shards_in(out) >= shards or driver.poll() is not None)
    assert driver.poll() is None, "it ended before it could be killed"


def lines_until(driver: subprocess.Popen[str], word: str) -> list[str]:
    lines = []
    for line in driver.stdout:
        lines.append(line)
        if line.startswith(word):
            return lines
    raise AssertionError(f"ended without {word!r}: {lines}")


def assert_complete(out: Path, uninterrupted: list[dict[str, Any]]) -> None:
    info = store.read_info(str(out))
    assert sorted(path.name for path in out.glob("*.parquet")) == sorted(
        [*info.shards, store.REJECTS]
    )
    assert not list(out.glob("*.partial"))
    assert rows(out, info.shards) == uninterrupted


@pytest.mark.drill
def test_the_driver_may_be_killed_repeatedly(
    corpus: Path, tmp_path: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    rng = random.Random(0)
    out = tmp_path / "store"
    with reader(out):
        for _ in range(3):
            with extraction(corpus, out) as driver:
                wait_until_some(out, driver, shards_in(out) + rng.randint(1, 15))
                # Its child processes live on, and may still write while the next run works.
                os.kill(driver.pid, signal.SIGKILL)
                driver.wait()
        (out / f".{'0123456789abcdef' * 2}.partial").write_bytes(b"PAR1, and no more")
        with extraction(corpus, out) as driver:
            lines_until(driver, f"done {CLIPS}")
            driver.wait()
    assert_complete(out, uninterrupted)


@pytest.mark.drill
def test_workers_may_be_killed(
    corpus: Path, tmp_path: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    rng = random.Random(1)
    out = tmp_path / "store"
    with reader(out), extraction(corpus, out) as driver:
        for point in sorted(rng.sample(range(1, 40), 3)):
            wait_until_some(out, driver, point)
            workers = [
                process
                for process in psutil.Process(driver.pid).children(recursive=True)
                if process.name().startswith("ray::Map")
            ]
            if workers:
                rng.choice(workers).kill()
        lines_until(driver, f"done {CLIPS}")
    assert_complete(out, uninterrupted)


@pytest.mark.drill
def test_a_node_may_be_killed(
    corpus: Path, tmp_path: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    out = tmp_path / "store"
    with reader(out), extraction(corpus, out, "two nodes") as driver:
        (node,) = [line for line in lines_until(driver, "up") if line.startswith("node")]
        wait_until_some(out, driver, random.Random(2).randint(2, 20))
        started = [psutil.Process(int(pid)) for pid in node.split()[1:]]
        kill([*(child for one in started for child in one.children(recursive=True)), *started])
        lines_until(driver, f"done {CLIPS}")
    assert_complete(out, uninterrupted)
