"""Sweeps on a real Ray: pausing schedulers, PBT, two objectives, failing trials, warm starts."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from irmas_dist.config.recipe import Recipe, build_recipe, with_values
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search.space import build_space
from irmas_dist.search.storages import open_study
from irmas_dist.search.sweep import SweepSummary, sweep
from irmas_dist.search.sweep_directory import SweepRecord, write_record
from irmas_dist.search.trial import LearnerTrial
from irmas_dist.training.checkpoint import CHECKPOINT_FILE
from irmas_dist.training.learner import SELECTED_BY
from irmas_dist.training.load import open_training_data
from tests.wandb_log import inspect

EPOCHS = 4
LOGS = "wandb/offline-run-*/run-*.wandb"

SPACE = {
    "model.width": {"type": "categorical", "choices": [4, 8]},
    "model.dropout.dense": {"type": "float", "low": 0.0, "high": 0.5},
    "training.lr": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True},
}


class Sweeper:
    """Runs sweeps on the same tiny features.

    Attributes:
        out: Directory of the last one.
    """

    def __init__(self, features: str, recipe: Recipe, folder: Path) -> None:
        self.features, self.folder = features, folder
        changes = {"training.epochs": EPOCHS, "tracking.directory": str(folder)}
        self.recipe = build_recipe(recipe.model_dump(), changes, "the test")
        self.task = open_training_data(features, self.recipe)

    def __call__(
        self, entries: dict[str, Any], name: str, *, resume: bool = False, **settings: Any
    ) -> SweepSummary:
        self.out = self.folder / name
        grace = {} if settings.get("scheduler") == "hyperband" else {"grace_epochs": 1}
        chosen = SweepSettings.model_validate({"trials": 6, **grace, **settings})
        space = build_space(entries, self.recipe, "the test")
        return sweep(self.task, self.recipe, space, self.out, chosen, resume)


DRILL = pytest.mark.drill


@pytest.fixture
def sweeper(features: str, recipe: Recipe, tmp_path: Path) -> Sweeper:
    return Sweeper(features, recipe, tmp_path)


def check_study(summary: SweepSummary) -> None:
    """Optuna has the sweep's trials, none of them running."""
    recorded = open_study(str(Path(summary.path) / "study.db")).trials
    states = {"completed": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    assert {t.number: t.state.name for t in recorded} == {
        row["number"]: states[row["state"]] for row in summary.trials
    }
    for row in summary.trials:
        values = list(recorded[row["number"]].intermediate_values.values())
        assert values in (row["curve"], [])  # Optuna has none with two objectives.


@pytest.mark.parametrize(
    "call",
    [
        "Study.tell",
        pytest.param("Trial.report", marks=pytest.mark.drill),
        pytest.param("Study.ask", marks=pytest.mark.drill),
    ],
)
def test_a_study_that_cannot_be_written_ends_the_sweep_and_costs_no_trial(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("the database is away")

    monkeypatch.chdir(sweeper.folder)
    settings = {"trials": 1, "scheduler": "none", "storage": "checkpoints"}
    with monkeypatch.context() as patched:
        patched.setattr(f"optuna.{call}", refuse)
        # It asks a study of its own, in memory.
        patched.setattr("irmas_dist.search.checks._require_a_network", lambda *_: None)
        with pytest.raises(IrmasError, match=r"sweep is interrupted \(the database is away\)"):
            sweeper(SPACE, "refused", **settings)
    states = [trial.state.name for trial in open_study(str(sweeper.out / "study.db")).trials]
    assert set(states) <= {"RUNNING"}
    summary = sweeper(SPACE, "refused", resume=True, **settings)
    assert [row["state"] for row in summary.trials] == ["completed"]
    check_study(summary)


def test_checkpoints_out_of_reach_end_the_sweep_and_cost_no_trial(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = sweeper.folder / "full" / "trials" / "0000"
    settings = {"trials": 1, "scheduler": "none"}

    def obstruct(out: Path, record: SweepRecord) -> None:
        write_record(out, record)
        place.parent.mkdir(exist_ok=True)
        place.write_text("no folder can be made here")

    with monkeypatch.context() as patched:
        patched.setattr("irmas_dist.search.sweep.write_record", obstruct)
        with pytest.raises(IrmasError, match=r"the sweep is interrupted \(.*/full/trials/0"):
            sweeper(SPACE, "full", **settings)
    place.unlink()
    (place / CHECKPOINT_FILE).mkdir(parents=True)  # no file that can be read
    with pytest.raises(IrmasError, match=rf"is interrupted \(.*/full/trials/0.*{CHECKPOINT_FILE}"):
        sweeper(SPACE, "full", resume=True, **settings)
    shutil.rmtree(place)
    summary = sweeper(SPACE, "full", resume=True, **settings)
    assert [row["state"] for row in summary.trials] == ["completed"]
    check_study(summary)


@DRILL
@pytest.mark.parametrize(
    ("scheduler", "reduction", "ends"),
    # By threes, the last rung of a bracket is epoch 3: its best trial goes on.
    [("hyperband", 2, {1, 2, 4}), ("hyperband", 3, {1, 4}), ("median", 2, {1, 2, 3, 4})],
)
def test_paused_and_stopped_trials_all_end(
    sweeper: Sweeper, scheduler: str, reduction: int, ends: set[int]
) -> None:
    summary = sweeper(SPACE, scheduler, scheduler=scheduler, reduction=reduction)
    assert {row["epochs"] for row in summary.trials} <= ends
    check_study(summary)
    assert len(summary.trials) == 6
    for row in summary.trials:
        assert row["state"] == ("completed" if row["epochs"] == EPOCHS else "pruned")
    assert summary.trials[0]["state"] == "completed"
    assert summary.model is not None


@DRILL
def test_pbt_takes_over_good_trials_and_stays_in_the_space(sweeper: Sweeper) -> None:
    summary = sweeper(SPACE, "pbt", scheduler="pbt", sampler="random")
    check_study(summary)
    assert [row["state"] for row in summary.trials] == ["completed"] * 6
    assert [row["epochs"] for row in summary.trials] == [EPOCHS] * 6
    drawn = {t.number: t.params for t in open_study(str(sweeper.out / "study.db")).trials}
    changed = [row for row in summary.trials if row["params"] != drawn[row["number"]]]
    assert changed
    for row in summary.trials:
        assert 0.0 <= row["params"]["model.dropout.dense"] <= 0.5
        assert 1e-5 <= row["params"]["training.lr"] <= 1e-2
    logged = {run["run_id"][-4:]: run for run in map(inspect, sweeper.folder.glob(LOGS))}
    for row in changed:
        config = logged[f"{row['number']:04d}"]["config"]
        assert with_values(config, row["params"], "the test") == config
    for row in summary.trials:  # Of the trial that it cloned, if that was better.
        best = logged[f"{row['number']:04d}"]["summary"][SELECTED_BY]
        assert best == pytest.approx(row["value"])
    assert summary.model is not None
    # A trial that took over weights has the network of their trial.
    assert len({(row["params"]["model.width"], row["parameters"]) for row in summary.trials}) <= 2


@pytest.mark.drill
@pytest.mark.parametrize("against", ["parameters", pytest.param("latency", marks=DRILL)])
def test_two_objectives_are_searched_together(sweeper: Sweeper, against: str) -> None:
    summary = sweeper(SPACE, against, sampler="nsga2", against=against, trials=4)
    check_study(summary)
    assert [row["state"] for row in summary.trials] == ["completed"] * 4
    study = open_study(str(sweeper.out / "study.db"))
    assert {t.number: t.values for t in study.trials} == {
        row["number"]: [row["value"], row["second"]] for row in summary.trials
    }
    assert study.best_trials
    if against == "parameters":
        sizes = {row["params"]["model.width"]: row["second"] for row in summary.trials}
        assert sizes == dict(sorted(sizes.items()))


def test_failing_trials_end_alone_each_with_its_reason(sweeper: Sweeper) -> None:
    entries = {
        "model.blocks": {"type": "categorical", "choices": [2, 6]},
        "training.lr": {"type": "categorical", "choices": [1e-3, 1e30]},
    }
    summary = sweeper(entries, "bad", sampler="grid", scheduler="none", trials=9)
    check_study(summary)
    reasons = {tuple(row["params"].values()): row["reason"] for row in summary.trials}
    assert reasons.pop((2, 1e-3)) is None
    assert "nan or infinite in epoch 1; try a learning rate below" in reasons.pop((2, 1e30))
    assert len(reasons) == 2
    assert all("model.blocks=6 with model.pool=2 leaves a single" in r for r in reasons.values())


@DRILL
def test_a_warm_start_runs_the_best_of_an_earlier_sweep_first(sweeper: Sweeper) -> None:
    first = sweeper(SPACE, "first", trials=3, scheduler="none", sampler="random")
    second = sweeper(SPACE, "second", trials=4, warm_start=str(sweeper.out / "study.db"))
    check_study(second)
    earlier = [row["params"] for row in first.trials]
    later = [row["params"] for row in sorted(second.trials, key=lambda row: row["number"])]
    assert later[:3] == earlier
    assert later[3] not in earlier


@pytest.mark.drill
def test_sweeps_of_one_study_draw_differently_and_keep_their_own_models(
    sweeper: Sweeper,
) -> None:
    settings: dict[str, Any] = {"trials": 2, "scheduler": "none", "sampler": "random"}
    shared = str(sweeper.folder / "shared.db")
    (sweeper.folder / "a").mkdir()
    (sweeper.folder / "b").mkdir()
    first = sweeper(SPACE, "a/same", study=shared, **settings)
    second = sweeper(SPACE, "b/same", study=shared, **settings)
    assert [len(first.trials), len(second.trials)] == [2, 4]
    assert len({str(row["params"]) for row in second.trials}) == 4
    best = second.trials[0]["number"]
    assert (second.model is None) == (best < 2)
    with pytest.raises(IrmasError, match="searched with another space"):
        sweeper({"model.width": SPACE["model.width"]}, "c/same", study=shared, **settings)


@DRILL
def test_a_worker_that_dies_at_its_start_fails_its_own_trial_only(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fragile(LearnerTrial):
        """Its process ends when it trains with a width of 8."""

        def _begin(self, config: dict[str, Any]) -> None:
            if config["model.width"] == 8:
                os._exit(1)
            super()._begin(config)

    monkeypatch.setattr("irmas_dist.search.run_trials.LearnerTrial", Fragile)
    entries = {"model.width": {"type": "categorical", "choices": [4, 8, 6]}}
    summary = sweeper(entries, "fragile", sampler="grid", scheduler="none", concurrent=1)
    check_study(summary)
    states = {row["params"]["model.width"]: row["state"] for row in summary.trials}
    assert states == {4: "completed", 8: "failed", 6: "completed"}
    assert summary.model is not None
    (failed,) = [row for row in summary.trials if row["state"] == "failed"]
    assert failed["reason"].startswith("its worker process ended")
    tags = [run["tags"] for run in map(inspect, sweeper.folder.glob(LOGS))]
    assert sum("failed" in of_run for of_run in tags) == 1
