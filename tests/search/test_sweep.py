"""A sweep on a real Ray: trials end as they should in Tune, in Optuna and in W&B alike."""

import json
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from irmas_dist import stages
from irmas_dist.config import Recipe, build_recipe, load_recipe
from irmas_dist.search.searcher import Searcher, fail_stale_trials, open_storage
from irmas_dist.search.space import Space, load_space
from irmas_dist.search.sweep import SweepSettings, SweepSummary, sweep
from irmas_dist.search.trial import FINISHED
from irmas_dist.training.learner import SELECTED_BY

SPACE = """
model.width: {type: categorical, choices: [4, 8]}
model.dropout.dense: {type: float, low: 0.0, high: 0.5}
training.lr: {type: float, low: 1.0e-5, high: 1.0e-2, log: true}
thresholds.rule: {type: categorical, choices: [global, per_instrument]}
"""


@pytest.fixture(scope="module")
def swept(
    features: str, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SweepSummary, Recipe]:
    out = tmp_path_factory.mktemp("sweeps") / "tiny"
    out.parent.joinpath("space.yaml").write_text(SPACE)
    changed = build_recipe(
        recipe.model_dump(),
        {"training.epochs": 4, "tracking.directory": str(out)},
        "the test",
    )
    space = load_space(out.parent / "space.yaml", changed)
    settings = SweepSettings(trials=6, concurrent=2, grace_epochs=1, reduction=2)
    return sweep(stages.open_task(features, changed), changed, space, out, settings), changed


def test_every_trial_ends_and_the_best_is_first(swept: tuple[SweepSummary, Recipe]) -> None:
    summary, recipe = swept
    assert len(summary.trials) == 6
    assert {trial["state"] for trial in summary.trials} <= {"complete", "pruned"}
    values = [trial["value"] for trial in summary.trials]
    assert values == sorted(values, reverse=True)
    for trial in summary.trials:
        full = trial["epochs"] == recipe.training.epochs
        assert (trial["state"] == "complete") == full
    assert any(trial["state"] == "pruned" for trial in summary.trials)


def test_the_study_says_the_same(swept: tuple[SweepSummary, Recipe]) -> None:
    summary, _ = swept
    study = optuna.load_study(
        study_name="tiny", storage=open_storage(str(Path(summary.path) / "study.db"))
    )
    told = {trial.number: trial for trial in study.get_trials()}
    assert len(told) == len(summary.trials)
    for trial in summary.trials:
        assert told[trial["number"]].state.name.lower() == trial["state"]
        assert told[trial["number"]].params == trial["params"]


def test_the_best_recipe_loads_and_has_the_best_values(
    swept: tuple[SweepSummary, Recipe],
) -> None:
    summary, recipe = swept
    best = load_recipe(Path(summary.path) / "best.yaml")
    assert best == build_recipe(recipe.model_dump(), summary.trials[0]["params"], "best")


def test_wandb_reads_each_trial_back(swept: tuple[SweepSummary, Recipe]) -> None:
    summary, _ = swept
    logs = sorted(Path(summary.path).glob("wandb/offline-run-*/run-*.wandb"))
    assert len(logs) == 6
    runs = [inspect(log) for log in logs]
    assert sorted(run["summary"]["state"] for run in runs) == sorted(
        {"complete": "completed", "pruned": "pruned"}[trial["state"]] for trial in summary.trials
    )
    by_lr = {trial["params"]["training.lr"]: trial for trial in summary.trials}
    for run in runs:
        trial = by_lr[run["config"]["training.lr"]]
        assert run["state"] == "finished"
        assert {name: run["config"][name] for name in trial["params"]} == trial["params"]
        assert run["config"]["features.bands"] == 32
        assert run["summary"]["epoch"] == trial["epochs"]
        assert run["summary"][SELECTED_BY]["max"] == pytest.approx(trial["value"])


def inspect(log: Path) -> dict:
    """Read an offline run back with W&B's own tool."""
    wandb = Path(sys.executable).parent / "wandb"
    printed = subprocess.run(
        [wandb, "leet", "inspect", "--summary", "--json", log],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(printed.stdout)


@pytest.fixture
def searcher(tmp_path: Path) -> Searcher:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    space: Space = load_space(path, Recipe())
    return Searcher(space, open_storage(str(tmp_path / "study.log")), "study", seed=0)


@pytest.mark.parametrize(
    ("last", "error", "state"),
    [
        ({SELECTED_BY: 0.5, FINISHED: True}, False, "COMPLETE"),
        ({SELECTED_BY: 0.5, FINISHED: False}, False, "PRUNED"),
        ({SELECTED_BY: float("nan"), FINISHED: True}, False, "FAIL"),
        (None, True, "FAIL"),
    ],
)
def test_optuna_is_told_how_a_trial_ended(
    searcher: Searcher, last: dict | None, error: bool, state: str
) -> None:
    searcher.suggest("t")
    if last:
        searcher.on_trial_result("t", {SELECTED_BY: 0.4, "training_iteration": 1})
        last["training_iteration"] = 2
    searcher.on_trial_complete("t", last, error)
    (trial,) = searcher._ot_study.trials
    assert trial.state.name == state
    if state != "FAIL":
        assert trial.value == 0.5
        assert trial.intermediate_values == {1: 0.4, 2: 0.5}


def test_trials_left_running_by_a_driver_that_died_have_failed(searcher: Searcher) -> None:
    searcher.suggest("t")
    fail_stale_trials(searcher._ot_study)
    assert [trial.state.name for trial in searcher._ot_study.trials] == ["FAIL"]


def test_studies_are_kept_in_sqlite_and_in_journals(tmp_path: Path) -> None:
    for name in ("study.db", "study.log"):
        study = optuna.create_study(storage=open_storage(str(tmp_path / name)), study_name="s")
        study.ask()
        again = optuna.load_study(study_name="s", storage=open_storage(str(tmp_path / name)))
        assert len(again.trials) == 1
