"""A trial of several workers trains on all of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray  # noqa: F401  (puts the psutil that it brings along on the import path)

# isort: split
import psutil

from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.recipe import build_recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError, StoreError
from irmas_dist.instruments import IRMAS
from irmas_dist.search import distributed_trial
from irmas_dist.search.trial import EPOCH, FAILED, TRIAL
from irmas_dist.training.checkpoint import CHECKPOINT_FILE
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import SELECTED_BY
from tests.conftest import CONFIGS, TINY
from tests.ray_cluster import RunningCluster, running_cluster


def workers_of(cluster: RunningCluster) -> list[psutil.Process]:
    """Processes of Ray Train's workers on a cluster."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error, AttributeError):
            ours = cluster.dashboard_url.split("/")[-1] in " ".join(process.parent().cmdline())
            if ours and "TrainWorker" in " ".join(process.info["cmdline"] or ()):
                found.append(process)
    return found


def environment_of(cluster: RunningCluster, folder: Path) -> dict[str, str]:
    """Variables of a command that joins a cluster, with its log below a folder."""
    return {
        **os.environ,
        **cluster.environment,
        "RAY_ADDRESS": cluster.gcs_address,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "IRMAS_LOG_DIR": str(folder / "logs"),
    }


@pytest.mark.drill
def test_a_trial_of_two_workers_trains_on_both_and_survives_the_loss_of_one(
    features: str, tmp_path: Path
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("training.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}\n")
    command = [sys.executable, "-m", "irmas_dist", "sweep", features, str(tmp_path / "swept")]
    command += ["--space", str(space), "--config", str(CONFIGS / "demo.yaml"), "--json"]
    command += ["--trials", "1", "--workers", "2"]
    longer = ("training.epochs=6", "training.windows_per_clip=24", "training.patience=6")
    for override in (*TINY, *longer, f"tracking.directory={tmp_path}"):
        command += ["--set", override]
    with running_cluster(num_cpus=2) as cluster:
        environment = environment_of(cluster, tmp_path)
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as sweep:
            while not list(tmp_path.glob(f"swept/**/progress/*/*/{CHECKPOINT_FILE}")):
                assert sweep.poll() is None, sweep.communicate()
                time.sleep(0.02)
            workers_of(cluster)[0].kill()
            out, errors = sweep.communicate(timeout=280)
    assert sweep.returncode == 0, errors
    (trial,) = json.loads(out)["trials"]
    assert (trial["state"], trial["epochs"]) == ("completed", 6)
    assert (tmp_path / "swept" / "model" / "model.json").exists()
    assert len(trial["instruments"]) == 11


@pytest.mark.drill
def test_a_trial_that_is_stopped_trains_no_longer(features: str, tmp_path: Path) -> None:
    """The second learns nothing and is stopped; the third has its workers."""
    rates = {"type": "categorical", "choices": [1e-3, 1e-12, 1e-13]}
    (tmp_path / "space.yaml").write_text(json.dumps({"training.lr": rates}))
    command = [sys.executable, "-m", "irmas_dist", "sweep", features, str(tmp_path / "swept")]
    command += ["--space", str(tmp_path / "space.yaml"), "--config", str(CONFIGS / "demo.yaml")]
    command += ["--trials", "3", "--workers", "2", "--sampler", "grid", "--grace-epochs", "1"]
    longer = ("training.epochs=9", "training.windows_per_clip=24", "training.patience=9")
    for override in (*TINY, *longer, f"tracking.directory={tmp_path}"):
        command += ["--set", override]
    with running_cluster(num_cpus=2) as cluster:
        environment = environment_of(cluster, tmp_path)
        swept = subprocess.run(
            [*command, "--json"], env=environment, capture_output=True, text=True, timeout=280
        )
    assert swept.returncode == 0, swept.stderr
    trials = json.loads(swept.stdout)["trials"]
    epochs = {trial["number"]: (trial["state"], trial["epochs"]) for trial in trials}
    assert epochs == {0: ("completed", 9), 1: ("pruned", 3), 2: ("pruned", 3)}
    assert [path.name for path in (tmp_path / "swept" / "trials").iterdir()] == ["0000"]


@pytest.fixture
def run_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[dict[str, Any]]]:
    """Return what runs a trial whose training fails after an epoch, and returns its reports."""

    lost = IrmasError("the loss is not finite")
    store = SimpleNamespace(settings=LogMelSettings(), vocabulary=IRMAS)

    def run(
        epoch: int, *values: float, resume: bool = False, error: Exception = lost
    ) -> list[dict[str, Any]]:
        def train(*arguments: Any) -> None:
            for number, value in enumerate(values, epoch):
                arguments[-1]({"epoch": number, SELECTED_BY: value})
            raise error

        reports: list[dict[str, Any]] = []
        monkeypatch.setattr(distributed_trial, "train_distributed", train)
        monkeypatch.setattr("ray.tune.report", reports.append)
        config = {TRIAL: {"number": 0, "resume": resume}}
        recipe = build_recipe({}, {"training.patience": 3}, "the test").model_dump()
        workers, data = WorkerSettings(count=2), cast(TrainingData, SimpleNamespace(store=store))
        distributed_trial.distributed_trial(config, data, recipe, str(tmp_path), workers)
        return reports

    return run


def test_a_new_trial_has_nothing_of_another_with_its_number(
    run_trial: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    """As one of a sweep has whose record was deleted."""
    (tmp_path / "0000").mkdir()
    (tmp_path / "0000" / "model.json").touch()
    assert [report[EPOCH] for report in run_trial(1, 0.4)] == [1, 0]


def test_a_training_that_fails_ends_its_trial_with_the_reason(
    run_trial: Callable[..., list[dict[str, Any]]],
) -> None:
    reports = run_trial(1, 0.4)
    assert [report[EPOCH] for report in reports] == [1, 0]
    assert [report.get(FAILED) for report in reports] == [None, "the loss is not finite"]


def test_each_epoch_is_reported_with_the_number_of_parameters(
    run_trial: Callable[..., list[dict[str, Any]]],
) -> None:
    """Trials that are pruned have no model that states it."""
    first, second, _ = run_trial(1, 0.4, 0.5)
    assert first["parameters"] == second["parameters"] > 1000


def test_a_store_that_fails_is_no_failure_of_the_trial(
    run_trial: Callable[..., list[dict[str, Any]]],
) -> None:
    with pytest.raises(StoreError, match="the disk is full"):
        run_trial(1, 0.4, error=StoreError("the disk is full"))


def test_the_epoch_by_which_patience_ends_is_reported_with_the_model_only(
    run_trial: Callable[..., list[dict[str, Any]]],
) -> None:
    """A scheduler would stop a trial there that is complete."""
    reports = run_trial(1, 0.4, 0.5, 0.3, 0.2, 0.1)
    assert [report[EPOCH] for report in reports] == [1, 2, 3, 4, 0]


@pytest.mark.parametrize(("resume", "best"), [(True, 0.7), (False, 0.4)])
def test_a_resumed_trial_has_the_best_value_of_before(
    run_trial: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    resume: bool,
    best: float,
) -> None:
    """By a lower one, a scheduler would stop a good trial."""
    history = [{"epoch": 1, SELECTED_BY: 0.7}, {"epoch": 2, SELECTED_BY: 0.6}]
    monkeypatch.setattr(distributed_trial, "latest_history", lambda directory: history)
    assert run_trial(3, 0.4, resume=resume)[0][SELECTED_BY] == best
