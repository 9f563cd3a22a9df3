"""A space, a study without Ray, and trials of it."""

from pathlib import Path

import optuna
import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.search import sweep_directory
from irmas_dist.search.samplers import build_sampler
from irmas_dist.search.searcher import StudySearcher
from irmas_dist.search.space import Space, build_space
from irmas_dist.search.study import interrupted_trials
from irmas_dist.search.trial import EPOCH, FAILED, FINISHED, TRIAL
from irmas_dist.training.learner import SELECTED_BY
from tests.records import DATA
from tests.training.conftest import data, settings

__all__ = ["data", "settings"]

ENTRIES = {
    "model.head": {"type": "categorical", "choices": ["flatten", "max"]},
    "model.dense": {
        "type": "int", "low": 64, "high": 256, "step": 64, "when": {"model.head": "max"},
    },
    "augment.mix.counts": {"type": "categorical", "choices": [[1], [2, 1]]},
    "training.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
}  # fmt: skip


@pytest.fixture
def space() -> Space:
    return build_space(ENTRIES, Recipe(), "the test")


@pytest.fixture
def study(space: Space, tmp_path: Path) -> optuna.Study:
    return make_study(space, f"sqlite:///{tmp_path}/study.db")


def make_study(
    space: Space, storage: object, name: str = "study", sampler: str = "tpe"
) -> optuna.Study:
    return optuna.create_study(
        storage=storage,
        study_name=name,
        sampler=build_sampler(sampler, space, seed=0, objectives=1, trials=20),
        direction="maximize",
        load_if_exists=True,
    )


def make_searcher(
    study: optuna.Study, space: Space, sweep: str = "a", budget: int = 9
) -> StudySearcher:
    """Return the searcher of a new driver of a sweep."""
    return StudySearcher(study, space, sweep, budget, interrupted_trials(study, sweep))


def result(value: float, epoch: int, **more: object) -> dict:
    """Return the result of an epoch of a trial."""
    return {SELECTED_BY: value, EPOCH: epoch, "time_total_s": 1.0, **more}


def finish(study: optuna.Study, space: Space, values: list[float]) -> None:
    """Add completed trials with these values."""
    searcher = make_searcher(study, space, budget=len(values))
    for value in values:
        searcher.suggest("t")
        searcher.end("t", result(value, 1, **{FINISHED: True}))


def end_with(study: optuna.Study, space: Space, values: dict[str, object]) -> None:
    """Add a completed trial whose values population-based training has changed to these."""
    searcher = make_searcher(study, space, budget=1)
    searcher.suggest("t")
    config = {f"config/{name}": value for name, value in values.items()}
    searcher.end("t", result(0.9, 1, **{FINISHED: True}, **config))


def fill(study: optuna.Study, space: Space, count: int) -> None:
    """Add trials that are good when the learning rate is near 3e-3 and the head pools.

    The last of every four is pruned; a failed and an interrupted one follow.
    """
    searcher = StudySearcher(study, space, "a", count + 2, [])
    for number in range(count):
        drawn = searcher.suggest("t")
        value = 0.7 - abs(drawn["training.lr"] - 3e-3) * 50 - 0.2 * (drawn["model.head"] != "max")
        for epoch in (1, 2, 3):
            result = {SELECTED_BY: max(value * epoch / 3, 0.01), EPOCH: epoch, "time_total_s": 2.0}
            stopped = number % 4 == 3 and epoch == 2
            if stopped or epoch == 3:
                searcher.end("t", result | {FINISHED: not stopped})
                break
            searcher.on_trial_result("t", result)
    searcher.suggest("bad")
    searcher.end("bad", {FAILED: "the loss became <nan>", SELECTED_BY: float("nan")})
    assert searcher.suggest("interrupted")[TRIAL]["number"] == count + 1  # and never ends


def sweep_record(tracking: dict[str, object]) -> sweep_directory.SweepRecord:
    """Return the record of a sweep of another identity than any real one."""
    return sweep_directory.SweepRecord(
        identity="0123456789ab",
        name="sweep",
        recipe=Recipe.model_validate({"tracking": tracking}).model_dump(mode="json"),
        space={},
        settings=SweepSettings(),
        data=DATA.model_copy(update={"store": "0123456789abcdef"}),
    )


def write_sweep(out: Path, directory: str | None = None) -> Path:
    """Write the directory of a sweep of 26 trials without running it."""
    space = build_space(ENTRIES, Recipe(), "the test")
    out.mkdir()
    recipe = Recipe.model_validate({"tracking": {"directory": directory or str(out)}})
    record = sweep_directory.make_record(out, recipe, space, SweepSettings(), DATA)
    sweep_directory.write_record(out, record)
    fill(make_study(space, f"sqlite:///{out}/study.db", out.name, "random"), space, 24)
    return out
