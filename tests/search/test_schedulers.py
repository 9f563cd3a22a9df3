"""Schedulers recall the reports of earlier drivers' trials, and count no epoch twice."""

from types import SimpleNamespace

import optuna
import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search.schedulers import build_scheduler, most_epochs, replay
from irmas_dist.search.space import Space, build_space
from irmas_dist.search.trial import EPOCH, FINISHED, TRIAL
from irmas_dist.training.learner import SELECTED_BY
from tests.search.conftest import make_searcher, result


@pytest.mark.parametrize(
    ("entry", "most"),
    [
        (None, 10),
        ({"type": "int", "low": 5, "high": 40}, 40),
        ({"type": "int", "low": 2, "high": 4}, 4),
        ({"type": "categorical", "choices": [8, 30, 20]}, 30),
        ({"type": "int", "low": 2, "high": 4, "when": {"model.head": "max"}}, 10),
    ],
)
def test_the_space_can_set_the_most_epochs_of_a_trial(
    entry: dict[str, object] | None, most: int
) -> None:
    entries = {"model.head": {"type": "categorical", "choices": ["flatten", "max"]}}
    entries |= {"training.epochs": entry} if entry else {}
    assert most_epochs(build_space(entries, Recipe(), "the test"), 10) == most


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_scheduler_recalls_the_reports_of_earlier_trials(
    name: str, study: optuna.Study, space: Space
) -> None:
    before = make_searcher(study, space)
    for value in (0.5, 0.6, 0.7, 0.8):
        before.suggest("t")
        before.on_trial_result("t", result(value, 1))
        before.end("t", result(value, 2, **{FINISHED: False}))
    scheduler = build_scheduler(SweepSettings(scheduler=name, grace_epochs=1), space, epochs=9)
    replay(scheduler, study)

    new = TuneTrial("new", 4, resume=False)
    scheduler.on_trial_add(None, new)
    poor = {EPOCH: 1, SELECTED_BY: 0.1}
    assert scheduler.on_trial_result(None, new, poor) == "STOP"


@pytest.mark.parametrize("name", ["asha", "median"])
def test_earlier_epochs_of_a_resumed_trial_count_once(
    name: str, study: optuna.Study, space: Space
) -> None:
    """It was among the best at its second epoch; later trials are better."""
    before = make_searcher(study, space)
    before.suggest("first")
    for epoch in (1, 2):
        before.on_trial_result("first", result(0.5, epoch))
    for value in (0.6, 0.9, 0.8, 0.3):
        before.suggest("t")
        for epoch in (1, 2, 3):
            before.on_trial_result("t", result(value if epoch < 3 else 0.2, epoch))
        before.end("t", result(0.2, 3, **{FINISHED: True}))
    after = make_searcher(study, space)
    config = after.suggest("again")
    assert config[TRIAL] == {"number": 0, "resume": True}
    scheduler = build_scheduler(SweepSettings(scheduler=name, grace_epochs=2), space, epochs=9)
    replay(scheduler, study, [0])
    resumed = TuneTrial("again", 0, resume=True)
    scheduler.on_trial_add(None, resumed)
    resumed_result = {EPOCH: 3, SELECTED_BY: 0.55}
    assert scheduler.on_trial_result(None, resumed, resumed_result) == "CONTINUE"


def test_the_median_rule_pauses_no_trial(space: Space) -> None:
    """Not even while others wait, whose turn comes when it ends."""
    scheduler = build_scheduler(SweepSettings(scheduler="median"), space, epochs=9)
    waiting = SimpleNamespace(get_live_trials=lambda: [SimpleNamespace(status="PENDING")])
    trial = TuneTrial("first", 0, resume=False)
    scheduler.on_trial_add(None, trial)
    for epoch in range(1, 9):
        reported = {EPOCH: epoch, SELECTED_BY: 0.1}
        assert scheduler.on_trial_result(waiting, trial, reported) == "CONTINUE"


def test_the_median_rule_counts_no_epoch_twice_that_is_trained_again(
    study: optuna.Study, space: Space
) -> None:
    """A killed trial resumes from a checkpoint before the last epoch that it has reported."""
    before = make_searcher(study, space)
    before.suggest("first")
    for epoch, value in ((1, 0.2), (2, 0.6)):
        before.on_trial_result("first", result(value, epoch))
    make_searcher(study, space).suggest("again")
    scheduler = build_scheduler(SweepSettings(scheduler="median", grace_epochs=1), space, epochs=9)
    replay(scheduler, study, [0])
    resumed = TuneTrial("again", 0, resume=True)
    scheduler.on_trial_add(None, resumed)
    mean = scheduler._running_mean(resumed, 9)
    reported = {EPOCH: 2, SELECTED_BY: 0.6}
    assert scheduler.on_trial_result(None, resumed, reported) == "CONTINUE"
    assert scheduler._running_mean(resumed, 9) == mean


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_trial_counts_once_after_its_node_was_lost(
    name: str, study: optuna.Study, space: Space
) -> None:
    """Tune has a new trial for it; the scheduler decides as if that were the only one."""
    searcher = make_searcher(study, space)
    searcher.suggest("lost")
    for epoch in (1, 2):
        searcher.on_trial_result("lost", result(0.9, epoch))
    searcher.postpone("lost")
    assert searcher.suggest("again")[TRIAL] == {"number": 0, "resume": True}

    alone = SimpleNamespace(get_live_trials=list)

    def decision(value: float, *trials: TuneTrial) -> str:
        scheduler = build_scheduler(SweepSettings(scheduler=name, grace_epochs=2), space, epochs=9)
        replay(scheduler, study, [0])
        values = {"lost": 0.9, "1": 0.8, "2": 0.7, "3": 0.6, "new": value}
        others = (TuneTrial(str(number), number, resume=False) for number in (1, 2, 3))
        decided = ""
        for trial in (*trials, *others, TuneTrial("new", 4, resume=False)):
            scheduler.on_trial_add(None, trial)
            if trial.trial_id in values:
                reported = {EPOCH: 2, SELECTED_BY: values[trial.trial_id]}
                decided = scheduler.on_trial_result(alone, trial, reported)
        return decided

    lost, again = TuneTrial("lost", 0, resume=False), TuneTrial("again", 0, resume=True)
    values = (0.85, 0.78, 0.65)
    alike = [decision(value, again) for value in values]
    assert [decision(value, lost, again) for value in values] == alike
    assert len(set(alike)) == 2


def test_pbt_keeps_values_on_which_other_entries_depend() -> None:
    entries = {
        "augment.mix.counts": {"type": "categorical", "choices": [[1], [2, 1]]},
        "augment.mix.level_db": {
            "type": "float", "low": 0.0, "high": 9.0, "when": {"augment.mix.counts": [[2, 1]]},
        },
    }  # fmt: skip
    settings = SweepSettings(scheduler="pbt")
    with pytest.raises(IrmasError, match="this space has none that can change"):
        build_scheduler(settings, build_space(entries, Recipe(), "the test"), epochs=9)
    free = {"model.dropout.dense": {"type": "float", "low": 0.0, "high": 0.5}}
    build_scheduler(settings, build_space(entries | free, Recipe(), "the test"), epochs=9)


class TuneTrial:
    """A trial of Tune, with the attributes that schedulers read."""

    def __init__(self, trial_id: str, number: int, *, resume: bool) -> None:
        self.trial_id = trial_id
        self.config = {TRIAL: {"number": number, "resume": resume}}
