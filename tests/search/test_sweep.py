"""A sweep on a real Ray: Tune, Optuna and W&B agree on how its trials end."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.config.recipe import Recipe, build_recipe, load_recipe, with_values
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.thresholds import search_decisions
from irmas_dist.reports.wandb_summary import log_summary
from irmas_dist.search.best_model import write_best_model
from irmas_dist.search.run_trials import QUIET_TUNE, _trainable
from irmas_dist.search.space import build_space, load_space
from irmas_dist.search.storages import open_storage
from irmas_dist.search.sweep import SweepSummary, _open_study, sweep
from irmas_dist.search.sweep_directory import make_record, read_record, trials_root
from irmas_dist.storage.locks import lock_directory
from irmas_dist.training.checkpoint import CHECKPOINT_FILE
from irmas_dist.training.learner import SELECTED_BY
from irmas_dist.training.load import open_training_data
from irmas_dist.training.model_description import read_description
from tests.records import DATA
from tests.wandb_log import inspect

SPACE = """
model.width: {type: categorical, choices: [4, 8]}
model.dropout.dense: {type: float, low: 0.0, high: 0.5}
training.lr: {type: float, low: 1.0e-5, high: 1.0e-2, log: true}
thresholds.rule: {type: categorical, choices: [global, per_instrument]}
augment.mix.counts: {type: categorical, choices: [[1], [3, 2, 1]]}
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
    summary = sweep(open_training_data(features, changed), changed, space, out, settings)
    log_summary(summary)
    return summary, changed


@pytest.mark.parametrize(("gpus", "on_gpu"), [(0.0, False), (0.25, True)])
def test_trials_train_on_a_gpu_where_they_have_a_share_of_one(
    gpus: float, on_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a share, Ray leaves the GPUs of the node to be seen."""
    given: dict[str, object] = {}
    monkeypatch.setattr(
        "ray.tune.with_parameters", lambda trial, **more: given.update(more) or trial
    )
    data: Any = None
    trainable = _trainable(data, Recipe(), "root", SweepSettings(gpus=gpus))
    assert given["gpu"] is on_gpu
    assert trainable.default_resource_request({}).required_resources.get("GPU", 0) == gpus


@pytest.mark.usefixtures("swept")
def test_ray_does_not_answer_what_interrupts_the_work_after_a_sweep() -> None:
    assert "ray" not in getattr(signal.getsignal(signal.SIGINT), "__module__", "")


def test_a_model_of_trials_on_gpus_is_written_where_there_is_none(
    swept: tuple[SweepSummary, Recipe], features: str, tmp_path: Path
) -> None:
    """As on a driver beside a cluster: the best trial's steps were captured or compiled."""
    summary, recipe = swept
    out = Path(summary.path)
    settings = {"training.graph": "on", "training.compile": True, **summary.trials[0]["params"]}
    best = build_recipe(recipe.model_dump(), settings, "the test")
    record = read_record(out)
    shutil.copytree(trials_root(out, record), tmp_path / "trials")
    data = open_training_data(features, best)
    model = write_best_model(data, best, summary.trials[0], tmp_path, record)
    assert model is not None
    assert read_description(model).recipe["training"]["graph"] == "on"


def test_the_best_trial_is_scored_on_the_cpu_where_the_gpu_cannot_be_used(
    swept: tuple[SweepSummary, Recipe],
    features: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    summary, recipe = swept
    out = Path(summary.path)
    record = read_record(out)
    shutil.copytree(trials_root(out, record), tmp_path / "trials")
    found = "irmas_dist.search.best_model.available_device"
    monkeypatch.setattr(found, lambda: torch.device("cuda"))
    data = open_training_data(features, recipe)
    assert write_best_model(data, recipe, summary.trials[0], tmp_path, record)
    told = " ".join(capsys.readouterr().err.split())
    assert "the best trial is scored on the CPU, as the GPU cannot be used (" in told


def test_a_damaged_checkpoint_of_the_best_trial_costs_its_model_only(
    swept: tuple[SweepSummary, Recipe],
    features: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary, recipe = swept
    record, best = read_record(Path(summary.path)), summary.trials[0]
    shutil.copytree(trials_root(Path(summary.path), record), tmp_path / "trials")
    (damaged,) = tmp_path.glob(f"trials/{best['number']:04d}/{CHECKPOINT_FILE}")
    damaged.write_bytes(b"")
    data = open_training_data(features, recipe)
    assert write_best_model(data, recipe, best, tmp_path, record) is None
    told = " ".join(capsys.readouterr().err.split())
    assert told.endswith("the best trial has no model: train best.yaml")


def test_thresholds_that_were_fitted_again_stay(
    swept: tuple[SweepSummary, Recipe], features: str, tmp_path: Path
) -> None:
    summary, recipe = swept
    out, best = Path(summary.path), load_recipe(Path(summary.path) / "best.yaml")
    shutil.copytree(out / "model", tmp_path / "model")
    shutil.copytree(trials_root(out, read_record(out)), tmp_path / "trials")
    again, _ = search_decisions(str(tmp_path / "model"), ThresholdSettings(rule="global"))
    assert len(set(again.thresholds.values())) == 1
    data = open_training_data(features, recipe)
    write_best_model(data, best, summary.trials[0], tmp_path, read_record(out))
    assert read_description(str(tmp_path / "model")) == again


def test_of_a_grid_as_many_points_wait_as_trials_will_run(tmp_path: Path) -> None:
    entries = {"model.width": {"type": "int", "low": 4, "high": 99}}
    recipe = Recipe()
    space = build_space(entries, recipe, "the test")
    settings = SweepSettings(sampler="grid", trials=3)
    record = make_record(tmp_path, recipe, space, settings, DATA)
    for _ in range(2):  # As when it is resumed.
        study = _open_study(record, space, recipe, tmp_path, None)
        assert [trial.state.name for trial in study.trials] == ["WAITING"] * 3


def test_every_trial_ends_and_the_best_is_first(swept: tuple[SweepSummary, Recipe]) -> None:
    summary, recipe = swept
    assert len(summary.trials) == 6
    assert {trial["state"] for trial in summary.trials} <= {"completed", "pruned", "failed"}
    values = [trial["value"] for trial in summary.trials]
    assert values == sorted(values, reverse=True)
    for trial in summary.trials:
        full = trial["epochs"] == recipe.training.epochs
        assert (trial["state"] == "completed") == full
    assert any(trial["state"] == "pruned" for trial in summary.trials)


def test_a_sweep_leaves_the_environment_as_it_was(swept: tuple[SweepSummary, Recipe]) -> None:
    assert not QUIET_TUNE.keys() & os.environ.keys()


def test_the_study_agrees(swept: tuple[SweepSummary, Recipe]) -> None:
    summary, _ = swept
    study = optuna.load_study(
        study_name="tiny", storage=open_storage(str(Path(summary.path) / "study.db"))
    )
    recorded = {trial.number: trial for trial in study.get_trials()}
    assert len(recorded) == len(summary.trials)
    for trial in summary.trials:
        in_optuna = recorded[trial["number"]]
        states = {"COMPLETE": "completed", "PRUNED": "pruned"}
        assert states[in_optuna.state.name] == trial["state"]
        counts = json.dumps(list(trial["params"]["augment.mix.counts"]))
        assert in_optuna.params == {**trial["params"], "augment.mix.counts": counts}
        assert list(in_optuna.intermediate_values.values()) == trial["curve"]


def test_tune_agrees(swept: tuple[SweepSummary, Recipe]) -> None:
    summary, _ = swept
    (directory,) = Path(summary.path).glob("tune-*")
    in_tune = {
        int(path.parent.name): [json.loads(line) for line in path.read_text().splitlines()]
        for path in directory.glob("*/result.json")
    }
    assert in_tune.keys() == {trial["number"] for trial in summary.trials}
    assert not list(directory.glob("*/progress.csv"))  # Tune's own loggers are off.
    for trial in summary.trials:
        results = in_tune[trial["number"]]
        assert [result[SELECTED_BY] for result in results] == trial["curve"]
        assert results[-1]["finished"] == (trial["state"] == "completed")


def test_the_best_recipe_loads_and_has_the_best_values(
    swept: tuple[SweepSummary, Recipe],
) -> None:
    summary, recipe = swept
    best = load_recipe(Path(summary.path) / "best.yaml")
    values = {**summary.trials[0]["params"], "tracking.group": Path(summary.path).name}
    assert best == build_recipe(recipe.model_dump(), values, "best")


def test_the_model_has_the_score_of_the_best_trial(
    swept: tuple[SweepSummary, Recipe],
) -> None:
    summary, _ = swept
    assert summary.model is not None
    description = Predictor.load(summary.model).description
    best = next(trial for trial in summary.trials if trial["state"] == "completed")
    assert description.history[description.best_epoch - 1][SELECTED_BY] == best["value"]


def test_a_directory_with_a_sweep_is_not_swept_again(
    swept: tuple[SweepSummary, Recipe], features: str
) -> None:
    summary, recipe = swept
    out = Path(summary.path)
    space = load_space(out.parent / "space.yaml", recipe)
    task = open_training_data(features, recipe)
    with pytest.raises(IrmasError, match="holds a sweep: resume it with --resume"):
        sweep(task, recipe, space, out, SweepSettings())
    other = build_recipe(recipe.model_dump(), {"seed": 1}, "the test")
    with pytest.raises(IrmasError, match=r"with seed=\d+ rather than 1; choose"):
        sweep(task, other, space, out, SweepSettings(), resume=True)


@pytest.mark.usefixtures("no_ray")
def test_what_cannot_be_swept_is_refused_before_ray_starts(
    swept: tuple[SweepSummary, Recipe], features: str, tmp_path: Path
) -> None:
    summary, recipe = swept
    space = load_space(Path(summary.path).parent / "space.yaml", recipe)
    data = open_training_data(features, recipe)
    (tmp_path / "file").touch()
    (tmp_path / "damaged.log").write_text("damaged\nstudy\n")
    (tmp_path / "damaged.db").write_text("damaged" * 100)

    def refused(out: Path, why: str, **settings: object) -> None:
        with pytest.raises(IrmasError, match=why):
            sweep(data, recipe, space, out, SweepSettings(**settings))

    refused(tmp_path / "file", "file is a file: name a directory")
    refused(Path("/proc/new"), "/proc/new cannot be written: ")
    with lock_directory(tmp_path / "new"):
        refused(tmp_path / "new", "new is in use by process")
    for study, why in (
        ("damaged.log", "it is not a journal of Optuna's"),
        ("damaged.db", "file is not a database"),
        ("no/folder/study.db", "cannot be created: .*folder is no directory"),
    ):
        refused(tmp_path / "new", why, study=str(tmp_path / study))
    refused(tmp_path / "new", "typo.db: there is no file", warm_start=str(tmp_path / "typo.db"))
    objectives = {"against": "parameters", "study": str(Path(summary.path) / "study.db")}
    refused(tmp_path / "tiny", "the study tiny has other objectives", **objectives)
    (tmp_path / "old" / "trials").mkdir(parents=True)
    refused(tmp_path / "old", "old/trials has trials of an earlier sweep: delete it, or")
    graphs = build_recipe(recipe.model_dump(), {"training.graph": "on"}, "the test")
    for options in ({"workers": 2}, {"gpus": 0}):
        with pytest.raises(IrmasError, match=r"training\.graph=on needs"):
            sweep(data, graphs, space, tmp_path / "new", SweepSettings(**options))
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"file", "damaged.log", "damaged.db", "old"}


def test_wandb_has_a_run_per_trial(swept: tuple[SweepSummary, Recipe]) -> None:
    summary, _ = swept
    runs = [
        inspect(log) for log in sorted(Path(summary.path).glob("wandb/offline-run-*/run-*.wandb"))
    ]
    trials = {trial["number"]: trial for trial in summary.trials}
    by_number = {int(run["run_id"].rsplit("-")[1]): run for run in runs if "-" in run["run_id"]}
    assert by_number.keys() == trials.keys()
    for number, run in by_number.items():
        trial = trials[number]
        assert run["state"] == "finished"
        assert run["summary"]["state"] == trial["state"]
        params = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in trial["params"].items()
        }
        assert with_values(run["config"], params, "the test") == run["config"]
        assert run["config"]["features"]["bands"] == 32
        assert run["summary"]["epoch"] == trial["epochs"]
        assert run["summary"][SELECTED_BY] == pytest.approx(trial["value"])
        assert run["summary"]["parameters"] == trial["parameters"]
        assert run["summary"]["instruments"]["nrows"] == 11


def test_wandb_has_a_summary_run_of_the_sweep(swept: tuple[SweepSummary, Recipe]) -> None:
    summary, _ = swept
    runs = [inspect(log) for log in Path(summary.path).glob("wandb/offline-run-*/run-*.wandb")]
    (run,) = [run for run in runs if "-" not in run["run_id"]]
    assert run["summary"]["best_macro_f1"] == pytest.approx(
        next(t["value"] for t in summary.trials if t["state"] == "completed")
    )
    assert run["summary"]["leaderboard"]["nrows"] == len(summary.trials)
    assert run["summary"]["history"]["nrows"] == len(summary.trials)
    assert run["summary"]["parallel coordinates"]["_type"] == "html-file"
    table = next(Path(summary.path).glob("wandb/offline-run-*/files/media/table/leaderboard*.json"))
    rows = json.loads(table.read_text())
    columns = rows["columns"]
    assert [row[columns.index("number")] for row in rows["data"]] == [
        trial["number"] for trial in summary.trials
    ]
