"""Training on several nodes, some of which are lost: the learning curve is the same."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from irmas_dist.training.checkpoint import CHECKPOINT_FILE
from tests.cluster.conftest import CABLES, EPOCHS, LONG, LOSSES, options
from tests.cluster.nodes import CPUS, Cluster, Job

pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]

THREE = ("--workers", 3, "--cpus", CPUS, "--wait", 120)
"""A worker on each of three nodes; a lost node must be replaced."""

CURRENT_EPOCH = "the current epoch"
DISCONNECTED_S = 20
Curve = list[dict[str, float]]


def train(cluster: Cluster, store: Path, out: Path, *more: object, epochs: int = EPOCHS) -> Job:
    given = options(f"training.epochs={epochs}")
    return cluster.submit(out.parent.name, "train", store, out, *given, *(more or THREE))


def epochs_in(out: Path) -> int:
    """Return the epoch of the newest checkpoint of an unfinished training."""
    return max(
        (int(p.parent.name[6:]) for p in out.glob(f"progress/*/*/{CHECKPOINT_FILE}")), default=0
    )


def assert_same_curve(out: Path, undisturbed: Curve, epochs: int = EPOCHS) -> None:
    history = json.loads((out / "model.json").read_text())["history"]
    assert [int(epoch["epoch"]) for epoch in history] == list(range(1, epochs + 1))
    for ours, theirs in zip(history, undisturbed, strict=False):
        for name in ("train_loss", "val_loss", "val_map"):
            assert ours[name] == pytest.approx(theirs[name], rel=0.02), (ours["epoch"], name)


def test_a_node_is_killed_during_training(
    cluster: Cluster, store: Path, undisturbed: Curve, tmp_path: Path, measured: Callable
) -> None:
    """Lost is the current epoch."""
    out = tmp_path / "model"
    nodes = cluster.have(3)
    job = train(cluster, store, out)
    began = job.until(lambda: epochs_in(out) >= 2)
    assert all(node.runs("TrainWorker") for node in nodes)
    cluster.lose(nodes[1])
    cluster.add()
    resumed_s = job.until(lambda: "resuming after epoch" in job.output()) - began
    measured(CURRENT_EPOCH, job.succeeds(), resumed_s)
    assert_same_curve(out, undisturbed)


@pytest.mark.parametrize("lose", LOSSES)
def test_the_node_of_the_only_worker_is_lost(
    cluster: Cluster,
    store: Path,
    undisturbed: Curve,
    tmp_path: Path,
    measured: Callable,
    lose: Callable,
) -> None:
    """Lost is the current epoch, and the time until Ray declares the node dead."""
    out = tmp_path / "model"
    nodes = cluster.have(2)
    job = train(cluster, store, out, "--cpus", CPUS, "--wait", 120)
    began = job.until(lambda: epochs_in(out) >= 2)
    lose(cluster, next(node for node in nodes if node.runs("SingleWorker")))
    resumed_s = job.until(lambda: "resuming after epoch" in job.output()) - began
    measured(CURRENT_EPOCH, job.succeeds(), resumed_s)
    assert "a worker was lost" in job.output()
    assert_same_curve(out, undisturbed)


@CABLES
def test_a_node_is_disconnected_for_20_s_during_training(
    cluster: Cluster, store: Path, undisturbed: Curve, tmp_path: Path, measured: Callable
) -> None:
    """Lost is nothing, or the current epoch.

    Ray gives a node more time than that. But a gRPC server closes a connection when what it
    sent is not acknowledged for 20 s, and Ray Train takes that for a lost worker.
    """
    out = tmp_path / "model"
    lost = cluster.have(3)[1]
    job = train(cluster, store, out)
    job.until(lambda: epochs_in(out) >= 2)
    lost.disconnect()
    time.sleep(DISCONNECTED_S)
    before, began = epochs_in(out), time.monotonic()
    lost.reconnect()
    resumed_s = job.until(lambda: epochs_in(out) > before) - began
    seconds = job.succeeds()
    measured(CURRENT_EPOCH if "a worker was lost" in job.output() else "", seconds, resumed_s)
    assert lost.address in cluster.alive()
    assert_same_curve(out, undisturbed)


@CABLES
def test_a_node_is_disconnected_for_good_during_training(
    cluster: Cluster, store: Path, undisturbed: Curve, tmp_path: Path, measured: Callable
) -> None:
    """Lost are the current epoch, and the time until Ray declares the node dead."""
    out = tmp_path / "model"
    lost = cluster.have(3)[1]
    job = train(cluster, store, out)
    began = job.until(lambda: epochs_in(out) >= 2)
    cluster.disconnect(lost)
    cluster.add()
    resumed_s = job.until(lambda: "resuming after epoch" in job.output()) - began
    measured(CURRENT_EPOCH, job.succeeds(), resumed_s)
    assert_same_curve(out, undisturbed)


def test_nodes_join_and_leave_an_elastic_training(
    cluster: Cluster, store: Path, undisturbed: Curve, tmp_path: Path, measured: Callable
) -> None:
    """Lost is the current epoch, at every change of the number of workers."""
    out = tmp_path / "model"
    while len(cluster.nodes) > 2:
        cluster.lose(cluster.nodes[0])
    cluster.have(2)
    elastic = ("--workers", 3, "--min-workers", 1, "--cpus", CPUS)
    job = train(cluster, store, out, *elastic, epochs=LONG)
    job.until(lambda: "starting on 2 of 3 workers" in job.output())
    job.until(lambda: epochs_in(out) >= 1)
    joined = cluster.add()
    began = job.until(lambda: joined.address in cluster.alive())
    grown = job.until(lambda: "on 3 of 3 workers" in job.output())
    measured(f"{CURRENT_EPOCH} (a node joins)", grown - job.began, grown - began)
    known = epochs_in(out)
    began = job.until(lambda: epochs_in(out) > known)
    cluster.lose(cluster.nodes[0])
    shrunk = lambda: job.output().count("on 2 of 3 workers") == 2  # noqa: E731
    resumed_s = job.until(shrunk) - began
    measured(f"{CURRENT_EPOCH} (a node leaves)", job.succeeds(), resumed_s)
    assert_same_curve(out, undisturbed, LONG)
