"""Nodes that do not share a directory: it is refused for inputs and outputs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ray_cluster import RunningCluster, end_family, running_cluster, wait_for_nodes
from tests.servers import need

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from irmas_dist.errors import IrmasError
from irmas_dist.cluster.runtime import ray_running, require_shared

with ray_running(sys.argv[1]):
    for paths in sys.argv[2:]:
        try:
            require_shared(*paths.split())
            print("fine")
        except IrmasError as error:
            print(error)
"""


def joining(cluster: RunningCluster) -> dict[str, str]:
    """Return the environment for joining a cluster; Ray sends the token only in this mode."""
    return {**os.environ, **cluster.environment, "RAY_AUTH_MODE": "token"}


@contextmanager
def second_node(cluster: RunningCluster, hidden: Path) -> Iterator[None]:
    """A node on which ``hidden`` is another, empty directory."""
    start = (
        f"mount -t tmpfs none {hidden} && exec {sys.executable} -m ray.scripts.scripts start "
        f"--address={cluster.gcs_address} --num-cpus=1 --block --object-store-memory=100000000 "
        "--min-worker-port=0 --max-worker-port=0"
    )
    environment = joining(cluster) | {"RAY_USAGE_STATS_ENABLED": "0"}
    node = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", start],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for_nodes(cluster, 2)
        yield
    finally:
        end_family(node)


@pytest.mark.drill
def test_a_path_that_one_node_sees_differently_is_refused(tmp_path: Path) -> None:
    need("unshare", "mount", root=True)
    shared, hidden = tmp_path / "shared", tmp_path / "hidden"
    for directory in (shared, hidden):
        directory.mkdir()
        (directory / "manifest.parquet").touch()
    cases = {
        f"{shared}/runs/model": "fine",
        "s3://bucket/model": "fine",
        f"{shared}/features {shared}/manifest.parquet": "fine",
        f"{hidden}/runs/model": f"does not see {hidden}/runs/model as node",
        f"s3://bucket/features {hidden}/manifest.parquet": f"see {hidden}/manifest.parquet as",
    }
    with running_cluster() as cluster, second_node(cluster, hidden):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, cluster.gcs_address, *cases],
            env=joining(cluster) | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    answers = done.stdout.splitlines()
    assert len(answers) == len(cases), done.stderr
    for answer, expected in zip(answers, cases.values(), strict=True):
        assert expected in answer
    assert "name a directory that all nodes mount, or a URL" in answers[-1]
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        "hidden", "manifest.parquet", "manifest.parquet", "shared",
    ]  # fmt: skip
