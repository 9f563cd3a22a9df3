"""The drill that every run of the tests has: a token is wanted, and a training loses a node."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from irmas_dist.training.checkpoint import read_description
from tests.cluster.conftest import options
from tests.cluster.nodes import CPUS, GCS, Cluster, wait_for
from tests.cluster.test_drills_train import IN_FLIGHT, epochs_in

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


def test_a_training_outlives_a_node_and_nobody_gets_in_without_the_token(
    cluster: Cluster, manifest: Path, features: str, tmp_path: Path, measured: Callable
) -> None:
    """Lost is the epoch in flight."""
    out = tmp_path / "model"
    nodes = cluster.have(3)
    given = (*options("training.epochs=30"), "--workers", 2, "--cpus", CPUS)
    job = cluster.submit("short", "train", features, out, *given)
    submit = ("submit", "--address", cluster.url, "--", "train", "--dry-run")
    join = ("extract", str(manifest), str(tmp_path / "x"))
    joining = (*join, "--address", f"{cluster.head.address}:{GCS}")
    answers = {
        "wants a token: set RAY_AUTH_TOKEN": refused(cluster, tmp_path, {}, *submit),
        "refuses this token: set RAY_AUTH_TOKEN": refused(cluster, tmp_path, WRONG, *submit),
        "if it wants a token, set RAY_AUTH_MODE=token": refused(cluster, tmp_path, WRONG, *joining),
    }
    job.until(lambda: epochs_in(out) >= 2)
    victim = next(node for node in nodes if node.runs("TrainWorker"))
    began = job.until(lambda: victim.runs("TrainWorker"))
    cluster.lose(victim)
    went_on = job.until(lambda: "going on after epoch" in job.said()) - began
    measured(IN_FLIGHT, job.succeeds(), went_on)
    epochs = [epoch["epoch"] for epoch in read_description(str(out)).history]
    assert epochs == list(range(1, 31))
    for told, said in answers.items():
        assert told in said()
