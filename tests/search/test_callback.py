"""Tune's events: failures have a reason, and the best trial keeps its checkpoint."""

from itertools import permutations
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import optuna
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from irmas_dist.search.callback import SweepCallback, failure_reason
from irmas_dist.search.live_table import LiveTable
from irmas_dist.search.space import Space
from irmas_dist.search.trial import FINISHED
from irmas_dist.search.wandb_runs import SweepRuns
from tests.search.conftest import make_searcher, result, sweep_record

VALUES = {0: 0.7, 1: 0.7, 2: 0.4}


@pytest.mark.parametrize("order", permutations(VALUES))
def test_of_equally_good_trials_the_first_keeps_its_checkpoint(
    order: tuple[int, ...], study: optuna.Study, space: Space, tmp_path: Path
) -> None:
    root = tmp_path / "trials"
    wandb_runs = SweepRuns(sweep_record({"mode": "disabled"}), tmp_path)
    searcher = make_searcher(study, space, budget=3)
    callback = SweepCallback(searcher, wandb_runs, LiveTable(3, 1), str(root))
    configs = [searcher.suggest(str(number)) for number in VALUES]
    for number in order:
        (root / f"{number:04d}").mkdir(parents=True)
        trial = SimpleNamespace(trial_id=str(number), config=configs[number], last_result={})
        callback.on_trial_start(trial=trial)
        trial.last_result = result(VALUES[number], 1, **{FINISHED: True})
        callback.on_trial_complete(trial=trial)
    wandb_runs.close()
    assert [path.name for path in root.iterdir()] == ["0000"]
    assert {trial.number: trial.value for trial in study.trials} == VALUES


def test_a_kill_at_any_point_of_an_end_leaves_what_a_resumed_sweep_needs(
    study: optuna.Study, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb_runs = SweepRuns(sweep_record({"mode": "offline", "directory": str(tmp_path)}), tmp_path)
    free = Event()
    wandb_runs._thread.submit(free.wait)
    searcher = make_searcher(study, space, budget=1)
    callback = SweepCallback(searcher, wandb_runs, LiveTable(1, 1), str(tmp_path / "trials"))
    trial = SimpleNamespace(trial_id="t", config=searcher.suggest("t"), last_result={})
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    callback.on_trial_start(trial=trial)
    trial.last_result = result(0.5, 1)
    there = []

    def tell(*_: object, **__: object) -> None:
        there.extend((tmp_path / name).exists() for name in ("ends/0000.json", "trials/0000"))

    with monkeypatch.context() as patched:
        patched.setattr(study, "tell", tell)
        callback.on_trial_complete(trial=trial)
    assert there == [True, True]
    assert not (tmp_path / "trials" / "0000").exists()
    free.set()
    wandb_runs.close()
    assert not (tmp_path / "ends").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ActorUnavailableError("RpcError: Socket closed", None), "its node was lost, and 3 others"),
        (ActorDiedError(), "its worker process ended"),
    ],
)
def test_a_lost_node_is_distinguished_from_a_dead_worker(error: Exception, reason: str) -> None:
    assert failure_reason(error, None).startswith(reason)
