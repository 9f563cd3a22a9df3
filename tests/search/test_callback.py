"""Tune's events: failures have a reason, and the best trial keeps its checkpoint."""

from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from irmas_dist.search.callback import SweepCallback, failure_reason
from irmas_dist.search.live_table import LiveTable
from irmas_dist.search.searcher import StudySearcher
from irmas_dist.search.trial import FINISHED, TRIAL
from irmas_dist.search.wandb_runs import SweepRuns
from irmas_dist.training.learner import SELECTED_BY
from tests.search.conftest import sweep_record

VALUES = {0: 0.7, 1: 0.7, 2: 0.4}


@pytest.mark.parametrize("order", permutations(VALUES))
def test_of_equally_good_trials_the_first_keeps_its_checkpoint(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    wandb_runs = SweepRuns(sweep_record({"mode": "disabled"}))
    searcher = StudySearcher.__new__(StudySearcher)  # not used for trials that end well
    callback = SweepCallback(searcher, wandb_runs, LiveTable(3, 1), str(tmp_path))
    for number in order:
        (tmp_path / f"{number:04d}").mkdir()
        trial = SimpleNamespace(config={TRIAL: {"number": number, "resume": False}}, last_result={})
        callback.on_trial_start(trial=trial)
        trial.last_result = {SELECTED_BY: VALUES[number], FINISHED: True}
        callback.on_trial_complete(trial=trial)
    wandb_runs.close()
    assert [path.name for path in tmp_path.iterdir()] == ["0000"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ActorUnavailableError("RpcError: Socket closed", None), "its node was lost, and 3 others"),
        (ActorDiedError(), "its worker process ended"),
    ],
)
def test_a_lost_node_is_distinguished_from_a_dead_worker(error: Exception, reason: str) -> None:
    assert failure_reason(error, None).startswith(reason)
