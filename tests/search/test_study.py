"""A study is shared by sweeps that search the same."""

from datetime import timedelta

import optuna
import pytest
from optuna.trial import TrialState

from irmas_dist.config.recipe import Recipe
from irmas_dist.errors import IrmasError
from irmas_dist.search.samplers import build_sampler
from irmas_dist.search.searcher import StudySearcher
from irmas_dist.search.space import Space, build_space
from irmas_dist.search.study import (
    importances,
    interrupted_trials,
    join_study,
    settle_unmarked_trials,
)
from tests.search.conftest import end_with, finish


def test_an_unmarked_trial_of_a_shared_study_fails_after_a_while(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.ask()
    settle_unmarked_trials(study, "a", shared=True)
    assert study.trials[0].state == TrialState.RUNNING
    monkeypatch.setattr("irmas_dist.search.study.UNMARKED", timedelta(0))
    settle_unmarked_trials(study, "a", shared=True)
    assert study.trials[0].state == TrialState.FAIL


def test_an_unmarked_trial_of_the_only_sweep_is_resumed(study: optuna.Study, space: Space) -> None:
    study.enqueue_trial({"training.lr": 0.002})  # as of a grid
    study.ask()
    settle_unmarked_trials(study, "a", shared=False)
    interrupted = interrupted_trials(study, "a")
    assert [trial.number for trial in interrupted] == [0]
    searcher = StudySearcher(study, space, "a", 0, interrupted)
    assert searcher.suggest("t")["training.lr"] == 0.002


def test_sweeps_share_a_study_only_when_they_search_the_same(
    study: optuna.Study, space: Space
) -> None:
    searched = {"recipe": "r", "space": "s", "features": "f"}
    assert not join_study(study, "a", searched)
    assert not join_study(study, "a", searched)  # resumed
    assert join_study(study, "b", searched)
    assert join_study(study, "a", searched)
    for what in searched:
        with pytest.raises(IrmasError, match=f"another {what}: name another directory"):
            join_study(study, "c", searched | {what: "other"})


def test_a_study_of_other_origin_is_not_joined(study: optuna.Study, space: Space) -> None:
    finish(study, space, [0.1])
    with pytest.raises(IrmasError, match="another recipe"):
        join_study(study, "a", {"recipe": "r"})


def test_importances_are_for_macro_f1_with_a_second_objective_too() -> None:
    entries = {
        "training.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "model.dropout.dense": {"type": "float", "low": 0.0, "high": 0.5},
    }
    space = build_space(entries, Recipe(), "the test")
    found = []
    for second in ([], [1.0]):
        study = optuna.create_study(
            sampler=build_sampler("random", space, 0, 1 + len(second), 20),
            directions=["maximize", *("minimize" for _ in second)],
        )
        for _ in range(40):
            trial = study.ask()
            drawn = space(trial)
            # The learning rate matters among good trials, dropout only among bad ones.
            value = min(1.0, 4 * drawn["model.dropout.dense"]) + drawn["training.lr"]
            study.tell(trial, [value, *second])
        found.append(importances(study))
    assert found[0] == found[1]


def test_importances_are_shares(study: optuna.Study, space: Space) -> None:
    finish(study, space, [0.1, 0.6, 0.3, 0.2, 0.5, 0.4, 0.7])
    assert importances(study) == {}  # Of seven trials they are noise.
    finish(study, space, [0.8])
    assert sum(importances(study).values()) == pytest.approx(1)


def test_values_that_pbt_changed_have_no_importances(study: optuna.Study, space: Space) -> None:
    finish(study, space, [0.1, 0.6, 0.3, 0.2, 0.5, 0.4, 0.7, 0.8])
    end_with(study, space, {"model.head": "flatten", "training.lr": 5e-3})
    assert importances(study) == {}
