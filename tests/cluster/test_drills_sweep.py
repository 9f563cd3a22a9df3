"""Sweeps on several nodes that lose a node or the head: every trial ends exactly once."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from irmas_dist.search.storages import open_study
from tests.cluster.conftest import LOSSES, options
from tests.cluster.network import Host
from tests.cluster.nodes import CPUS, Cluster, Job

pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]

TRIALS, EPOCHS = 6, 10
SPACE = "training.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}\n"


class Sweep:
    """One sweep, observed through its study and its directory."""

    def __init__(self, store: Path, folder: Path) -> None:
        self.out = folder / "swept"
        (folder / "space.yaml").write_text(SPACE)
        self.command: list[object] = ["sweep", store, self.out]
        self.options: list[object] = [
            *("--space", folder / "space.yaml", "--scheduler", "none", "--trials", TRIALS),
            # One on each node.
            *("--cpus", CPUS),
            *options(f"training.epochs={EPOCHS}"),
        ]

    def begin(self, cluster: Cluster) -> Job:
        """Submit it, and wait until a trial is complete, another is half-way, and no node idles."""
        job = cluster.submit(self.out.parent.name, *self.command, *self.options)
        job.until(
            lambda: (
                self.done()
                and any(2 <= n < EPOCHS - 3 for n in self.running())
                and all(node.runs("ResourceTrainable") for node in cluster.nodes)
            )
        )
        return job

    def trials(self) -> dict[int, FrozenTrial]:
        if not (self.out / "sweep.json").exists():
            return {}
        study = open_study(str(self.out / "study.db"))
        return {trial.number: trial for trial in study.trials}

    def done(self) -> dict[int, FrozenTrial]:
        return {n: one for n, one in self.trials().items() if one.state == TrialState.COMPLETE}

    def running(self) -> list[int]:
        """Return the number of epochs of each running trial."""
        return [
            len(trial.intermediate_values)
            for trial in self.trials().values()
            if trial.state == TrialState.RUNNING
        ]

    def assert_complete(self, *, of_one_driver: bool = True) -> None:
        """Assert that every trial ended once, after all its epochs, by the study and by Tune.

        What Tune recorded on a head that was killed is lost with it.
        """
        trials = self.trials()
        assert [trials[number].state for number in range(TRIALS)] == [TrialState.COMPLETE] * TRIALS
        assert len(trials) == TRIALS
        reported: dict[int, list[dict]] = {}
        for path in sorted(self.out.glob("tune-*/*/result.json")):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            # The directory of a restarted trial has a suffix.
            reported.setdefault(int(path.parent.name[:4]), []).extend(lines)
        for number, trial in trials.items():
            assert list(trial.intermediate_values) == list(range(1, EPOCHS + 1))
            if of_one_driver or number in reported:
                epochs = {line["epoch"] for line in reported[number]}
                first = 1 if of_one_driver else min(epochs)
                assert epochs == set(range(first, EPOCHS + 1))
                assert sum(line["done"] for line in reported[number]) == 1
                assert reported[number][-1]["val_macro_f1"] == trial.value


@pytest.fixture
def sweep(cluster: Cluster, store: Path, tmp_path: Path) -> Sweep:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    cluster.have(3)
    return Sweep(store, tmp_path)


def test_a_node_that_joins_takes_trials(cluster: Cluster, store: Path, tmp_path: Path) -> None:
    """As one that an autoscaler adds, since a trial waits for it."""
    while len(cluster.nodes) > 1:
        cluster.lose(cluster.nodes[-1])
    cluster.have(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweep = Sweep(store, tmp_path)
    job = cluster.submit(sweep.out.parent.name, *sweep.command, *sweep.options)
    job.until(sweep.running)
    joined = cluster.add()
    job.until(lambda: joined.runs("ResourceTrainable"))
    job.succeeds()
    sweep.assert_complete()


@pytest.mark.parametrize("lose", LOSSES)
def test_a_node_is_lost_during_a_sweep(
    cluster: Cluster, sweep: Sweep, measured: Callable, lose: Callable[[Cluster, Host], None]
) -> None:
    """Lost are the epochs of that node's trial since its last checkpoint."""
    job = sweep.begin(cluster)
    began = time.monotonic()
    lose(cluster, cluster.nodes[0])
    seconds = job.succeeds()
    measured("a trial's epochs since its checkpoint", seconds, time.monotonic() - began)
    sweep.assert_complete()


def test_the_head_is_killed_during_a_sweep(
    cluster: Cluster, sweep: Sweep, measured: Callable
) -> None:
    """Lost are the epochs of each running trial since its last checkpoint, but no ended trial."""
    job = sweep.begin(cluster)
    began = time.monotonic()
    cluster.lose_head()
    job.process.kill()
    job.process.wait()
    before, epochs = sweep.done(), sum(sweep.running())
    cluster.replace_head()
    cluster.have(3)
    again = cluster.submit(sweep.out.parent.name, *sweep.command, *sweep.options)
    resumed = again.until(lambda: sum(sweep.running()) > epochs or len(sweep.done()) > len(before))
    again.succeeds()
    lost = "each running trial's epochs since its checkpoint"
    measured(lost, time.monotonic() - began, resumed - began)
    sweep.assert_complete(of_one_driver=False)
    assert before.items() <= sweep.done().items()
