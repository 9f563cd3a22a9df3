"""The summary run of a sweep shows its trials, its best values and its model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.reports.wandb_summary import _cell, log_summary
from irmas_dist.search.storages import open_study
from irmas_dist.search.study import importances, list_trials
from irmas_dist.search.sweep import SweepSummary
from irmas_dist.search.sweep_directory import read_record, write_record
from irmas_dist.training.records import DataRecord
from tests.search.conftest import ENTRIES, write_sweep
from tests.wandb_log import inspect

DATA = {"manifest": "m", "features": "f", "store": "0123456789abcdef"}


def finished_sweep(out: Path) -> SweepSummary:
    """A sweep of 26 trials with a model that none of them has trained."""
    write_sweep(out)
    write_record(out, read_record(out).model_copy(update={"data": DataRecord(**DATA)}))
    (out / "model").mkdir()
    (out / "model" / "model.json").write_text("{}")
    _, space = read_record(out).load(str(out))
    study = open_study(str(out / "study.db"))
    trials = list_trials(study, space)
    pruned = next(trial for trial in trials if trial["state"] == "pruned")
    pruned["value"] = 0.99  # higher than any that was completed
    shares, model = importances(study), str(out / "model")
    return SweepSummary(str(out), trials, shares, Recipe(), model, against=None, seconds=1.0)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepSummary, dict[str, Any]]:
    """A sweep and its summary run."""
    summary = finished_sweep(tmp_path_factory.mktemp("sweeps") / "made-up")
    log_summary(summary)
    (log,) = Path(summary.path).glob("wandb/offline-run-*/run-*.wandb")
    return summary, inspect(log)


def table(summary: SweepSummary, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table of the run."""
    files = Path(summary.path).glob(f"wandb/offline-run-*/files/media/table/{name}_*.json")
    content = json.loads(next(files).read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


Logged = tuple[SweepSummary, dict[str, Any]]


def test_the_run_has_the_identity_and_the_recipe_of_the_sweep(logged: Logged) -> None:
    summary, run = logged
    assert run["run_id"] == read_record(Path(summary.path)).identity
    assert run["state"] == "finished"
    assert run["config"]["training"]["epochs"] == Recipe().training.epochs


def test_its_summary_has_the_best_trial_and_counts_states(logged: Logged) -> None:
    summary, run = logged
    best = next(trial for trial in summary.trials if trial["state"] == "completed")
    values = run["summary"]
    assert values["best_trial"] == best["number"]
    assert values["best_macro_f1"] == pytest.approx(best["value"])
    assert values["best/training.lr"] == pytest.approx(best["params"]["training.lr"])
    counts = {name: count for name, count in values.items() if name.startswith("trials_")}
    assert counts == {
        "trials_completed": 18,
        "trials_pruned": 6,
        "trials_failed": 1,
        "trials_interrupted": 1,
        "trials_running": 0,
    }


def test_a_later_summary_keeps_nothing_of_an_earlier_best_trial(tmp_path: Path) -> None:
    summary = finished_sweep(tmp_path / "made-up")
    log_summary(summary)
    resumed = [
        dict(trial, params={"training.lr": 0.5})
        for trial in summary.trials
        if trial["state"] == "completed"
    ]
    log_summary(replace(summary, trials=resumed))
    *_, log = sorted(Path(summary.path).glob("wandb/offline-run-*/run-*.wandb"))
    values = inspect(log)["summary"]
    assert values["trials_failed"] == values["trials_interrupted"] == 0
    best = {name: value for name, value in values.items() if name.startswith("best/")}
    assert set(best) == {f"best/{name}" for name in ENTRIES}
    assert {name for name, value in best.items() if value is not None} == {"best/training.lr"}


def test_the_leaderboard_has_every_trial_with_its_values(logged: Logged) -> None:
    summary, _ = logged
    rows = table(summary, "leaderboard")
    assert [row["number"] for row in rows] == [trial["number"] for trial in summary.trials]
    assert set(ENTRIES) <= set(rows[0])
    for row, trial in zip(rows, summary.trials, strict=True):
        assert row["value"] == trial["value"]
        assert row["training.lr"] == trial["params"]["training.lr"]
        assert row["model.dense"] == trial["params"].get("model.dense")
        assert row["augment.mix.counts"] == str(trial["params"]["augment.mix.counts"])
    assert {row["reason"] for row in rows} == {None, "the loss became <nan>"}


def test_the_history_has_the_best_value_so_far_by_number(logged: Logged) -> None:
    summary, _ = logged
    rows = table(summary, "history")
    assert [row["number"] for row in rows] == list(range(24))  # the others have no value
    values = [row["macro_f1"] for row in rows]
    completed = {t["number"]: t["value"] for t in summary.trials if t["state"] == "completed"}
    assert len(completed) < len(values)
    expected = [
        max([value for number, value in completed.items() if number <= end], default=None)
        for end in range(24)
    ]
    assert [row["best_macro_f1"] for row in rows] == expected


def test_importances_and_the_page_are_logged(logged: Logged) -> None:
    summary, run = logged
    rows = table(summary, "importances")
    assert {row["setting"]: row["importance"] for row in rows} == summary.importances
    assert run["summary"]["parallel coordinates"]["_type"] == "html-file"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([1, 2.5, None], [1, 2.5, None]),
        (["a", "b"], ["a", "b"]),
        ([True, False], [True, False]),
        ([1, "none"], ["1", "none"]),
        ([True, 2], ["True", "2"]),
        ([(1,), None], ["(1,)", None]),
    ],
)
def test_a_column_of_several_types_becomes_text(column: list[Any], expected: list[Any]) -> None:
    assert [_cell(column, value) for value in column] == expected
