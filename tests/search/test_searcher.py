"""Optuna proposes every trial, and records how it ended."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from irmas_dist.config.recipe import Recipe
from irmas_dist.search.samplers import build_sampler, enqueue
from irmas_dist.search.searcher import MAX_NODES_LOST, StudySearcher
from irmas_dist.search.space import Space, build_space
from irmas_dist.search.study import (
    directions,
    interrupted_trials,
    list_trials,
    own_trials,
    settle_unmarked_trials,
)
from irmas_dist.search.trial import FAILED, FINISHED, TRIAL
from tests.search.conftest import make_searcher, make_study, result


@pytest.mark.parametrize(
    ("last", "state", "reason"),
    [
        (result(0.5, 2, **{FINISHED: True}), "COMPLETE", None),
        (result(0.5, 2, **{FINISHED: False}), "PRUNED", None),
        (result(float("nan"), 2, **{FINISHED: True}), "FAIL", "not a number"),
        (result(float("nan"), 0, **{FAILED: "the loss became nan"}), "FAIL", "became nan"),
    ],
)
def test_optuna_records_how_a_trial_ended(
    study: optuna.Study, space: Space, last: dict, state: str, reason: str | None
) -> None:
    searcher = make_searcher(study, space)
    searcher.suggest("t")
    searcher.on_trial_result("t", result(0.4, 1))
    searcher.end("t", last)
    (trial,) = study.trials
    assert trial.state.name == state
    (row,) = list_trials(study, space)
    if reason is None:
        assert trial.intermediate_values == {1: 0.4, 2: 0.5}
        assert trial.value == row["value"] == 0.5
    else:
        assert reason in row["reason"]


def test_a_trial_stopped_while_paused_is_pruned_with_its_last_value(
    study: optuna.Study, space: Space
) -> None:
    searcher = make_searcher(study, space)
    searcher.suggest("t")
    searcher.on_trial_result("t", result(0.4, 1))
    searcher.end("t")
    assert study.trials[0].state == TrialState.PRUNED
    assert study.trials[0].value == 0.4


def test_as_many_trials_live_as_there_is_room_for(study: optuna.Study, space: Space) -> None:
    room = 2
    searcher = StudySearcher(study, space, "a", 9, [], most=lambda: room)
    assert [searcher.suggest(name) is not None for name in "abc"] == [True, True, False]
    room = 3  # A node has joined.
    assert [searcher.suggest(name) is not None for name in "cd"] == [True, False]
    searcher.end("b", result(0.5, 2, **{FINISHED: True}))
    assert [searcher.suggest(name) is not None for name in "de"] == [True, False]
    assert (len(study.trials), searcher.left) == (4, 5)


def test_a_trial_that_raised_fails_with_its_reason(study: optuna.Study, space: Space) -> None:
    searcher = make_searcher(study, space)
    searcher.suggest("t")
    searcher.fail("t", "out of memory")
    assert study.trials[0].state == TrialState.FAIL
    assert list_trials(study, space)[0]["reason"] == "out of memory"


def test_a_trial_whose_node_died_is_suggested_again(study: optuna.Study, space: Space) -> None:
    searcher = make_searcher(study, space, budget=1)
    first = searcher.suggest("t")
    searcher.on_trial_result("t", result(0.4, 1))
    assert searcher.suggest("wait") is None
    assert searcher.postpone("t")
    again = searcher.suggest("u")
    assert again == {**first, TRIAL: {"number": 0, "resume": True}}
    searcher.on_trial_result("u", result(0.4, 1))
    searcher.end("u", result(0.6, 2, **{FINISHED: True}))
    assert searcher.suggest("v") == Searcher.FINISHED
    (trial,) = study.trials
    assert (trial.value, trial.intermediate_values) == (0.6, {1: 0.4, 2: 0.6})


def test_a_trial_that_loses_node_after_node_fails(study: optuna.Study, space: Space) -> None:
    searcher = make_searcher(study, space, budget=1)
    for _ in range(MAX_NODES_LOST):
        searcher.suggest("t")
        assert searcher.postpone("t")
    searcher.suggest("t")
    assert not searcher.postpone("t")
    searcher.fail("t", "its node was lost")
    assert searcher.suggest("u") == Searcher.FINISHED


def test_an_interrupted_trial_is_resumed_once_with_its_values(
    study: optuna.Study, space: Space
) -> None:
    killed = make_searcher(study, space, budget=3)
    drawn = {name: killed.suggest(name) for name in "abc"}
    killed.on_trial_result("b", result(0.3, 1))
    killed.end("a", result(0.5, 2, **{FINISHED: True}))
    # No result of b and c arrives: their driver is dead.
    next_driver = make_searcher(study, space, budget=0)
    again = [next_driver.suggest(name) for name in "xy"]
    assert again == [
        {**drawn[name], TRIAL: {"number": number, "resume": True}}
        for number, name in ((1, "b"), (2, "c"))
    ]
    for name in "xy":
        next_driver.end(name, result(0.6, 2, **{FINISHED: True}))
    assert next_driver.suggest("z") == Searcher.FINISHED
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3


def test_drivers_of_one_study_resume_their_own_trials_only(
    study: optuna.Study, space: Space
) -> None:
    one, other = make_searcher(study, space, "one", 2), make_searcher(study, space, "other", 1)
    one.suggest("t")
    other.suggest("t")
    settle_unmarked_trials(study, "one", shared=True)
    assert [trial.state.name for trial in study.trials] == ["RUNNING", "RUNNING"]
    assert [trial.number for trial in interrupted_trials(study, "one")] == [0]
    assert [trial.number for trial in own_trials(study, "other")] == [1]
    # A new driver of one sweep resumes its own trial only.
    next_driver = make_searcher(study, space, "one", 0)
    assert next_driver.suggest("u")[TRIAL]["number"] == 0
    assert next_driver.suggest("v") is None


def test_drivers_of_one_grid_run_each_of_its_points_once(tmp_path: Path) -> None:
    entries = {
        "model.width": {"type": "categorical", "choices": [8, 12, 16]},
        "model.blocks": {"type": "int", "low": 3, "high": 4},
    }
    space = build_space(entries, Recipe(), "the test")
    study = make_study(space, f"sqlite:///{tmp_path}/grid.db", sampler="grid")
    enqueue(study, space.grid())
    drivers = [StudySearcher(study, space, sweep, 9, [], grid=True) for sweep in ("a", "b")]
    taken = []
    for number in range(4):
        for driver in drivers:
            if isinstance(drawn := driver.suggest(f"t{number}"), dict):
                drawn.pop(TRIAL)
                taken.append(drawn)
    assert len(taken) == 6
    assert all(point in taken for point in space.grid())
    assert [driver.left for driver in drivers] == [0, 0]


def test_two_objectives_are_recorded_together(space: Space, tmp_path: Path) -> None:
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path}/two.db",
        sampler=build_sampler("nsga2", space, 0, 2, 20),
        directions=["maximize", "minimize"],
    )
    searcher = StudySearcher(study, space, "a", 1, [], "parameters")
    searcher.suggest("t")
    searcher.on_trial_result("t", result(0.4, 1, parameters=10))
    searcher.end("t", result(0.5, 2, parameters=10, **{FINISHED: True}))
    assert study.trials[0].values == [0.5, 10]
    (row,) = list_trials(study, space)
    assert (row["value"], row["second"], row["curve"]) == (0.5, 10, [0.4, 0.5])


@pytest.mark.parametrize("second", [None, "parameters"])
def test_an_interrupted_trial_keeps_its_curve_whatever_the_objectives(
    second: str | None, space: Space
) -> None:
    study = optuna.create_study(directions=directions(second))
    first = StudySearcher(study, space, "a", 1, [], second)
    first.suggest("t")
    for epoch, value in enumerate((0.1, 0.2, 0.4), 1):
        first.on_trial_result("t", result(value, epoch, parameters=10))
    assert list_trials(study, space)[0]["curve"] == [0.1, 0.2, 0.4]
    then = StudySearcher(study, space, "a", 0, interrupted_trials(study, "a"), second)
    then.suggest("u")
    then.end("u", result(0.9, 4, parameters=10, **{FINISHED: True}))
    assert list_trials(study, space)[0]["curve"] == [0.1, 0.2, 0.4, 0.9]


def test_a_trial_is_resumed_with_values_changed_by_pbt(study: optuna.Study, space: Space) -> None:
    searcher = make_searcher(study, space)
    drawn = searcher.suggest("t")
    assert isinstance(drawn, dict)
    searcher.on_trial_result("t", result(0.3, 1, **{f"config/{k}": v for k, v in drawn.items()}))
    assert list_trials(study, space)[0]["params"] == space.values(study.trials[0].params)
    changed = {"model.head": "max", "model.dense": 128, "augment.mix.counts": (2, 1)}
    changed["training.lr"] = 5e-3
    searcher.on_trial_result("t", result(0.4, 2, **{f"config/{k}": v for k, v in changed.items()}))
    again = make_searcher(study, space).suggest("u")
    assert isinstance(again, dict)
    assert again.pop(TRIAL) == {"number": 0, "resume": True}
    as_written = changed | {"augment.mix.counts": [2, 1]}
    assert again == as_written
    assert list_trials(study, space)[0]["params"] == as_written


def test_a_trial_that_takes_over_weights_has_a_value_for_every_epoch(
    study: optuna.Study, space: Space
) -> None:
    """It takes over a trial that was ahead, and then one that was behind."""
    searcher = make_searcher(study, space)
    searcher.suggest("t")
    for epoch, value in [(1, 0.3), (4, 0.6), (5, 0.7), (3, 0.5), (4, 0.55), (5, 0.8), (6, 0.9)]:
        searcher.on_trial_result("t", result(value, epoch))
    before = [0.3, 0.3, 0.3, 0.6, 0.7]
    (trial,) = study.get_trials()
    assert [trial.intermediate_values[step] for step in range(1, 7)] == [*before, 0.9]
    searcher.end("t", result(0.9, 6, **{FINISHED: True}))
    (row,) = list_trials(study, space)
    assert (row["epochs"], row["curve"]) == (6, [*before, 0.9])


def test_a_trial_can_start_with_the_weights_of_another(study: optuna.Study, space: Space) -> None:
    searcher = make_searcher(study, space)
    searcher.suggest("t")
    searcher.on_trial_result("t", result(0.6, 3))
    assert list_trials(study, space)[0]["curve"] == [0.6, 0.6, 0.6]
