"""The shortest drill: an extraction loses a node, and clients need a token."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.cluster.nodes import Cluster
from tests.cluster.test_drills_extract import assert_undisturbed, under_way
from tests.waiting import wait_for

pytestmark = [pytest.mark.timeout(600), pytest.mark.drill]

WRONG = {"RAY_AUTH_TOKEN": "0" * 64}


def refused(
    cluster: Cluster, folder: Path, given: Mapping[str, str], *command: str
) -> Callable[[], str]:
    """Start a command on the head with another token; return a function for its last line."""
    clean = {name: v for name, v in cluster.environment.items() if not name.startswith("RAY_")}
    # There may be a token in the user's home.
    environment = clean | {"HOME": str(folder)} | given
    log = folder / f"{command[0]}-{len(list(folder.iterdir()))}.log"
    process = cluster.head.start([sys.executable, "-m", "irmas_dist", *command], environment, log)

    def output() -> str:
        wait_for(lambda: process.poll() is not None, why=log.read_text)
        assert process.returncode == 1, log.read_text()
        (line,) = log.read_text().splitlines()
        return line

    return output


def test_an_extraction_survives_a_lost_node_and_the_token_is_required(
    cluster: Cluster,
    manifest: Path,
    long_manifest: Path,
    features: str,
    tmp_path: Path,
    measured: Callable,
) -> None:
    """Nothing is lost: other nodes compute the lost node's tasks."""
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
    for refusal, output in answers.items():
        assert refusal in output()
