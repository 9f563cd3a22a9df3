"""The drill that every run of the tests has: a token is wanted, and an extraction loses a node."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.cluster.nodes import Cluster, wait_for
from tests.cluster.test_drills_extract import assert_undisturbed, under_way

pytestmark = pytest.mark.timeout(600)

WRONG = {"RAY_AUTH_TOKEN": "0" * 64}


def refused(
    cluster: Cluster, folder: Path, given: Mapping[str, str], *command: str
) -> Callable[[], str]:
    """Start a command on the head with another token; to be called for what it says at its end."""
    clean = {name: v for name, v in cluster.environment.items() if not name.startswith("RAY_")}
    # At home there may be a token.
    environment = clean | {"HOME": str(folder)} | given
    log = folder / f"{command[0]}-{len(list(folder.iterdir()))}.log"
    process = cluster.head.start([sys.executable, "-m", "irmas_dist", *command], environment, log)

    def said() -> str:
        wait_for(lambda: process.poll() is not None, log.read_text)
        assert process.returncode == 1, log.read_text()
        (line,) = log.read_text().splitlines()
        return line

    return said


def test_an_extraction_outlives_a_node_and_nobody_gets_in_without_the_token(
    cluster: Cluster,
    manifest: Path,
    long_manifest: Path,
    features: str,
    tmp_path: Path,
    measured: Callable,
) -> None:
    """Nothing is lost: what the node was at is computed by others."""
    out = tmp_path / "features"
    job, victim = under_way(cluster, long_manifest, out)
    submit = ("submit", "--address", cluster.url, "--", "train", "--dry-run")
    join = ("extract", str(manifest), str(tmp_path / "x"))
    joining = (*join, "--address", cluster.address)
    began = time.monotonic()
    cluster.lose(victim)
    answers = {
        "wants a token: set RAY_AUTH_TOKEN": refused(cluster, tmp_path, {}, *submit),
        "refuses this token: set RAY_AUTH_TOKEN": refused(cluster, tmp_path, WRONG, *submit),
        "if it wants a token, set RAY_AUTH_MODE=token": refused(cluster, tmp_path, WRONG, *joining),
    }
    seconds = job.succeeds()
    measured("", seconds, time.monotonic() - began)
    assert_undisturbed(out, Path(features))
    for told, said in answers.items():
        assert told in said()
