"""Whose progress is kept: that of the best trial, from which the model is made."""

from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.search.callback import SweepCallback
from irmas_dist.search.live_table import LiveTable
from irmas_dist.search.searcher import StudySearcher
from irmas_dist.search.trial import FINISHED, TRIAL
from irmas_dist.search.wandb_runs import SweepRuns
from irmas_dist.training.learner import SELECTED_BY

VALUES = {0: 0.7, 1: 0.7, 2: 0.4}


@pytest.mark.parametrize("order", permutations(VALUES))
def test_of_equally_good_trials_the_first_in_the_table_keeps_its_progress(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    recipe = Recipe.model_validate({"tracking": {"mode": "disabled"}})
    runs = SweepRuns(recipe, "sweep", "identity")
    searcher = StudySearcher.__new__(StudySearcher)  # it is not asked about trials that end well
    follower = SweepCallback(searcher, runs, LiveTable(3, 1), str(tmp_path))
    for number in order:
        (tmp_path / f"{number:04d}").mkdir()
        trial = SimpleNamespace(config={TRIAL: {"number": number}}, last_result={})
        follower.on_trial_start(0, [], trial)
        trial.last_result = {SELECTED_BY: VALUES[number], FINISHED: True}
        follower.on_trial_complete(0, [], trial)
    runs.close()
    assert [path.name for path in tmp_path.iterdir()] == ["0000"]
