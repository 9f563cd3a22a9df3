"""Samplers draw the same for the same seed; a warm start runs the best earlier trials first."""

from pathlib import Path

import optuna
import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.config.sweep import SamplerName
from irmas_dist.search.samplers import WARM_STARTS, best_points, build_sampler, enqueue
from irmas_dist.search.space import Space, build_space
from irmas_dist.search.storages import open_storage, open_study
from irmas_dist.search.study import best_row, list_trials
from irmas_dist.search.trial import TRIAL
from tests.search.conftest import end_with, finish, make_searcher, make_study


def test_a_warm_start_runs_the_best_points_first(
    study: optuna.Study, space: Space, tmp_path: Path
) -> None:
    finish(study, space, [0.1, 0.6, 0.3])
    earlier = open_study(str(tmp_path / "study.db"))
    fresh = make_study(space, open_storage(str(tmp_path / "next.db"), create=True))
    points = best_points(earlier, space)
    assert enqueue(fresh, points) == 3
    assert enqueue(fresh, points) == 0
    drawn = make_searcher(fresh, space).suggest("t")
    best = best_row(list_trials(study, space))
    assert {name: v for name, v in drawn.items() if name != TRIAL} == best["params"]


def test_a_warm_start_of_a_study_that_minimises_begins_with_the_least(space: Space) -> None:
    earlier = optuna.create_study(direction="minimize")
    rates = {"training.lr": optuna.distributions.FloatDistribution(1e-3, 1e-2, log=True)}
    for loss, rate in ((0.3, 2e-3), (0.1, 3e-3), (0.2, 4e-3)):
        trial = optuna.create_trial(
            value=loss, params={"training.lr": rate}, distributions=rates
        )  # fmt: skip
        earlier.add_trial(trial)
    assert [point["training.lr"] for point in best_points(earlier, space)] == [3e-3, 4e-3, 2e-3]


def test_a_warm_start_keeps_the_values_inside_the_space(study: optuna.Study, space: Space) -> None:
    finish(study, space, [0.1, 0.6, 0.3, 0.2, 0.5, 0.4])
    other = build_space(
        {
            "model.head": {"type": "categorical", "choices": ["max", "average"]},
            "augment.mix.counts": {"type": "categorical", "choices": [[3], [2, 1]]},
        },
        Recipe(), "test",
    )  # fmt: skip
    drawn = {trial.params["augment.mix.counts"] for trial in study.trials}
    assert drawn == {"[1]", "[2, 1]"}
    both = {"model.head": "max", "augment.mix.counts": "[2, 1]"}
    points = best_points(study, other)
    assert both in points
    assert all(point.items() <= both.items() for point in points)


def test_a_warm_start_leaves_out_values_beside_the_steps(study: optuna.Study, space: Space) -> None:
    finish(study, space, [0.1, 0.6, 0.3, 0.2, 0.5, 0.4])
    drawn = {trial.params["model.dense"] for trial in study.trials if "model.dense" in trial.params}
    assert drawn - {64, 256}
    coarser = {"model.dense": {"type": "int", "low": 64, "high": 256, "step": 192}}
    head = {"model.head": {"type": "categorical", "choices": ["max"]}}
    points = best_points(study, build_space(head | coarser, Recipe(), "test"))
    assert {point.get("model.dense", 64) for point in points} <= {64, 256}


def test_a_warm_start_has_the_values_that_pbt_ended_with(study: optuna.Study, space: Space) -> None:
    changed = {
        "model.head": "max", "model.dense": 128, "augment.mix.counts": (2, 1), "training.lr": 5e-3
    }  # fmt: skip
    end_with(study, space, changed)
    (point,) = best_points(study, space)
    assert point == changed | {"augment.mix.counts": "[2, 1]"}


def test_of_a_vast_grid_only_the_points_that_run_are_made(tmp_path: Path) -> None:
    entries = {
        "seed": {"type": "int", "low": 0, "high": 2**32 - 1},
        "training.lr": {"type": "float", "low": 1e-9, "high": 1.0, "step": 1e-9},
        "model.head": {"type": "categorical", "choices": ["flatten", "max"]},
    }
    vast = build_space(entries, Recipe(), "test")
    grid = make_study(vast, f"sqlite:///{tmp_path}/grid.db", sampler="grid")
    for _ in range(2):
        assert enqueue(grid, vast.grid(), most=3) == 3
    drawn = [vast(grid.ask()) for _ in range(6)]
    assert [point["model.head"] for point in drawn] == ["flatten", "max"] * 3
    assert [point["training.lr"] for point in drawn] == [1e-9, 1e-9, 2e-9, 2e-9, 3e-9, 3e-9]


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "nsga2"])
def test_every_sampler_draws_the_same_for_the_same_seed(name: str, space: Space) -> None:
    def draw() -> list[dict]:
        sampler = build_sampler(name, space, 3, 1, 20)
        made = optuna.create_study(sampler=sampler, direction="maximize")
        for value in (0.1, 0.4, 0.2):
            trial = made.ask()
            space(trial)
            made.tell(trial, value)
        return [trial.params for trial in made.trials]

    assert draw() == draw()


def test_a_genetic_algorithm_learns_in_a_short_sweep(space: Space) -> None:
    def draw(name: SamplerName) -> list[dict]:
        sampler = build_sampler(name, space, 3, 2, 20)
        made = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"])
        for number in range(20):
            trial = made.ask()
            space(trial)
            made.tell(trial, [number % 7, number % 5])
        return [trial.params for trial in made.trials]

    evolved, chance = draw("nsga2"), draw("random")
    assert evolved[:4] == chance[:4]
    assert evolved[4:] != chance[4:]


def test_a_warm_start_has_the_few_best_points_from_the_best_on(
    study: optuna.Study, space: Space
) -> None:
    finish(study, space, [0.1, 0.6, 0.3, 0.2, 0.5, 0.4, 0.8, 0.7])
    ranked = sorted(study.trials, key=lambda trial: -trial.values[0])
    expected = [space.stored(space.values(trial.params)) for trial in ranked]
    assert best_points(study, space) == expected[:WARM_STARTS]
