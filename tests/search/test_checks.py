"""A sweep that cannot run is refused before it writes anything."""

from typing import Any

import optuna
import pytest

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search.checks import check_resumed, check_settings
from irmas_dist.search.space import Space, build_space
from tests.search.conftest import finish, make_searcher


def test_no_scheduler_compares_trials_by_two_objectives(space: Space) -> None:
    assert SweepSettings().scheduler == "asha"
    assert SweepSettings(against="parameters").scheduler == "none"
    asked = SweepSettings(against="parameters", scheduler="asha")
    with pytest.raises(IrmasError, match="--scheduler asha compares by one objective; use none"):
        check_settings(asked, space, Recipe())


@pytest.mark.parametrize("scheduler", ["hyperband", "pbt"])
def test_schedulers_that_start_all_trials_together_leave_nothing_to_learn_from(
    scheduler: Any, space: Space
) -> None:
    samplers: tuple[Any, ...] = ("cmaes", "nsga2")
    for sampler in samplers:
        asked = SweepSettings(scheduler=scheduler, sampler=sampler)
        with pytest.raises(IrmasError, match=f"--sampler {sampler} learns from results, and --sch"):
            check_settings(asked, space, Recipe())
    check_settings(SweepSettings(scheduler=scheduler, sampler="random"), space, Recipe())


def test_a_scheduler_that_decides_how_many_trials_run_names_what_else_does(space: Space) -> None:
    """As when a sweep with --concurrent is resumed with another scheduler."""
    asked = SweepSettings(scheduler="hyperband", concurrent=1)
    with pytest.raises(IrmasError, match="leave out --concurrent 1; a sweep that began with it"):
        check_settings(asked, space, Recipe())


def test_hyperband_has_no_grace_epochs(space: Space) -> None:
    asked = SweepSettings(scheduler="hyperband", grace_epochs=5)
    with pytest.raises(IrmasError, match="after an epoch: leave out --grace-epochs 5, or use"):
        check_settings(asked, space, Recipe())
    check_settings(SweepSettings(scheduler="hyperband"), space, Recipe())


def test_every_worker_of_a_trial_has_an_example(space: Space) -> None:
    asked = SweepSettings(workers=4)
    check_settings(asked, space, Recipe())
    small = build_recipe({}, {"training.batch_size": 2}, "the test")
    with pytest.raises(IrmasError, match=r"--workers 4: training\.batch_size=2 has no example"):
        check_settings(asked, space, small)
    sizes = {"training.batch_size": {"type": "categorical", "choices": [8, 3]}}
    with pytest.raises(IrmasError, match=r"--workers 4: training\.batch_size=3 has no example"):
        check_settings(asked, build_space(sizes, Recipe(), "the test"), Recipe())


def test_interrupted_trials_are_resumed_on_one_or_on_several_workers_as_they_were(
    study: optuna.Study, space: Space
) -> None:
    one, two, three = (SweepSettings(workers=count) for count in (1, 2, 3))
    finish(study, space, [0.4])
    check_resumed(study, "a", one, two)
    make_searcher(study, space).suggest("interrupted")
    for before, now in ((one, two), (two, one)):
        with pytest.raises(IrmasError, match="trials 1 were interrupted on --workers"):
            check_resumed(study, "a", before, now)
    check_resumed(study, "a", two, three)


def test_trials_are_resumed_where_their_checkpoints_lie(study: optuna.Study, space: Space) -> None:
    here, there = SweepSettings(), SweepSettings(storage="s3://bucket/there")
    check_resumed(study, "a", here, there)
    finish(study, space, [0.4])
    for before, now, told in ((here, there, "no --storage"), (there, here, "--storage s3://buc")):
        with pytest.raises(IrmasError, match=f"its trials have their checkpoints by {told}"):
            check_resumed(study, "a", before, now)
    check_resumed(study, "a", there, there)


def test_the_recipes_batch_size_counts_where_that_of_the_space_has_a_condition() -> None:
    recipe = build_recipe({}, {"training.batch_size": 2}, "the test")
    entries = {
        "training.schedule": {"type": "categorical", "choices": ["constant", "cosine"]},
        "training.batch_size": {
            "type": "categorical",
            "choices": [8, 16],
            "when": {"training.schedule": "cosine"},
        },
    }
    with pytest.raises(IrmasError, match=r"--workers 4: training\.batch_size=2 has no example"):
        check_settings(SweepSettings(workers=4), build_space(entries, recipe, "the test"), recipe)


@pytest.mark.parametrize(("low", "refused"), [(7, True), (3, False)])
def test_a_space_of_which_no_network_can_be_built_is_refused(low: int, refused: bool) -> None:
    recipe = Recipe()
    entries = {
        "training.lr": {"type": "float", "low": 1e-3, "high": 1e-2},
        "model.blocks": {"type": "int", "low": low, "high": 8},
    }
    space = build_space(entries, recipe, "the test")
    if not refused:
        check_settings(SweepSettings(), space, recipe)
        return
    with pytest.raises(IrmasError, match=r"of 50 trials drawn at random none can be trained: "):
        check_settings(SweepSettings(), space, recipe)
