"""Extraction on several nodes, some of which are lost: every clip is stored once, unchanged."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from irmas_dist.features.store import read_info
from tests.cluster.conftest import LOSSES, TIMES, extract_options
from tests.cluster.network import Host
from tests.cluster.nodes import Cluster, Job

pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]


def rows(store: Path) -> dict[str, Any]:
    shards = [store / name for name in read_info(str(store)).shards]
    read = [row for shard in shards for row in pq.read_table(shard).to_pylist()]
    found = {row["clip_id"]: (row["labels"], row["frames"], row["logmel"]) for row in read}
    assert len(found) == len(read), "a clip is stored twice"
    return found


def under_way(cluster: Cluster, manifest: Path, out: Path) -> tuple[Job, Host]:
    """Return an extraction that has written some shards, and a node that works on others."""
    nodes = cluster.have(3)
    job = cluster.submit(out.parent.name, "extract", manifest, out, *extract_options())
    job.until(lambda: len(list(out.glob("part-*.parquet"))) >= 2)
    found: list[Host] = []
    job.until(lambda: found or found.extend(node for node in nodes if node.runs("ray::Map")))
    return job, found[0]


def assert_undisturbed(out: Path, store: Path) -> None:
    expected = rows(store).items()
    assert rows(out) == {f"{clip}:{n}": row for clip, row in expected for n in range(TIMES)}
    assert not list(out.glob("*.partial"))


@pytest.mark.parametrize("lose", LOSSES)
def test_a_node_is_lost_during_extraction(
    cluster: Cluster,
    store: Path,
    long_manifest: Path,
    tmp_path: Path,
    measured: Callable,
    lose: Callable[[Cluster, Host], None],
) -> None:
    """Only time is lost, until Ray declares the node dead: other nodes compute its tasks."""
    out = tmp_path / "features"
    job, victim = under_way(cluster, long_manifest, out)
    began = time.monotonic()
    lose(cluster, victim)
    seconds = job.succeeds()
    measured("", seconds, time.monotonic() - began)
    assert_undisturbed(out, store)
