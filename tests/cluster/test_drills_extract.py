"""Extraction on several nodes, some of which are lost: every clip is there, once, and the same."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from irmas_dist.corpus.manifest import read_manifest, write_manifest
from irmas_dist.features.store import read_info
from tests.cluster.conftest import options
from tests.cluster.network import Host
from tests.cluster.nodes import Cluster, Job

pytestmark = [pytest.mark.drill, pytest.mark.timeout(700)]

GRPC_PATIENCE_S = 540.0
"""Ray asks a silent connection after 300 s whether it is still there, and gives it 120 s."""

TIMES = 60
"""How often the corpus is repeated, so that there is time to disturb its extraction."""


@pytest.fixture(scope="session")
def long_manifest(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus several times over, under other names."""
    path = tmp_path_factory.mktemp("long") / "manifest.parquet"
    rows = read_manifest(manifest).to_pylist()
    again = [row | {"clip_id": f"{row['clip_id']}:{n}"} for n in range(TIMES) for row in rows]
    write_manifest(path, again)
    return path


def features(store: Path) -> dict[str, Any]:
    shards = [store / name for name in read_info(str(store)).shards]
    rows = [row for shard in shards for row in pq.read_table(shard).to_pylist()]
    found = {row["clip_id"]: (row["labels"], row["frames"], row["logmel"]) for row in rows}
    assert len(found) == len(rows), "a clip is there twice"
    return found


def under_way(cluster: Cluster, manifest: Path, out: Path) -> tuple[Job, Host]:
    """An extraction that has written some shards, and a node that is at work on others."""
    nodes = cluster.have(3)
    job = cluster.submit(out.parent.name, "extract", manifest, out, *options())
    job.until(lambda: len(list(out.glob("part-*.parquet"))) >= 2)
    found: list[Host] = []
    job.until(lambda: found or found.extend(node for node in nodes if node.runs("ray::Map")))
    return job, found[0]


def assert_undisturbed(out: Path, store: Path) -> None:
    once = features(store)
    assert features(out) == {f"{clip}:{n}": it for clip, it in once.items() for n in range(TIMES)}
    assert not list(out.glob("*.partial"))


def test_a_node_is_killed_during_extraction(
    cluster: Cluster, store: Path, long_manifest: Path, tmp_path: Path, measured: Callable
) -> None:
    """Nothing is lost: what the node was at is computed by others."""
    out = tmp_path / "features"
    job, victim = under_way(cluster, long_manifest, out)
    began = time.monotonic()
    cluster.lose(victim)
    seconds = job.succeeds()
    measured("", seconds, time.monotonic() - began)
    assert_undisturbed(out, store)


def test_a_node_is_cut_off_for_good_during_extraction(
    cluster: Cluster, store: Path, long_manifest: Path, tmp_path: Path, measured: Callable
) -> None:
    """Nothing is lost but time: gRPC waits for a task's answer for seven minutes."""
    out = tmp_path / "features"
    job, victim = under_way(cluster, long_manifest, out)
    began = time.monotonic()
    victim.cut()
    cluster.nodes.remove(victim)
    seconds = job.succeeds(GRPC_PATIENCE_S)
    measured("", seconds, time.monotonic() - began)
    assert_undisturbed(out, store)
