"""Tune's events: failures have a reason, and the best trial keeps its checkpoint."""

from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError

from irmas_dist.config.training import LearnerSettings, WorkerSettings
from irmas_dist.search.callback import SweepCallback, failure_reason
from irmas_dist.search.live_table import LiveTable
from irmas_dist.search.searcher import StudySearcher
from irmas_dist.search.space import Space
from irmas_dist.search.trial import FINISHED
from irmas_dist.search.wandb_runs import SweepRuns
from irmas_dist.tracking.run_file import RunFile, run_files
from irmas_dist.training.data import TrainingData
from irmas_dist.training.local import train_here
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


def test_an_end_is_kept_until_the_study_has_it_and_the_run_is_closed(
    study: optuna.Study, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb_runs = SweepRuns(sweep_record({"mode": "offline", "directory": str(tmp_path)}), tmp_path)
    callback = SweepCallback(
        searcher := make_searcher(study, space, budget=1), wandb_runs, LiveTable(1, 1),
        str(tmp_path / "trials"),
    )  # fmt: skip
    trial = SimpleNamespace(trial_id="t", config=searcher.suggest("t"), last_result={})
    kept, checkpoint = tmp_path / "ends" / "0000.json", tmp_path / "trials" / "0000"
    checkpoint.mkdir(parents=True)
    callback.on_trial_start(trial=trial)
    trial.last_result = result(0.5, 1)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(study, "tell", refuse)
        with pytest.raises(OSError, match="the database is away"):
            callback.on_trial_complete(trial=trial)
    wandb_runs._thread.submit(int).result()  # What was submitted before is done.
    (file,) = run_files(tmp_path)
    assert not RunFile(file).whole
    assert kept.exists()
    assert checkpoint.exists()

    callback.on_trial_complete(trial=trial)
    assert not checkpoint.exists()
    wandb_runs.close()
    assert (RunFile(file).whole, RunFile(file).summary["state"]) == (True, "pruned")
    assert not kept.parent.exists()


def test_a_trial_of_several_workers_has_its_history_when_its_model_is_written(
    data: TrainingData, settings: LearnerSettings, tmp_path: Path
) -> None:
    model = str(tmp_path / "0000")
    made = train_here(data, settings, {}, model, WorkerSettings(gpu=False), lambda _: None)
    wandb_runs = SweepRuns(sweep_record({"mode": "disabled"}), tmp_path)
    callback = SweepCallback(
        StudySearcher.__new__(StudySearcher), wandb_runs, LiveTable(1, 1), str(tmp_path)
    )
    assert callback._resumed_history(0) == made.history
    assert callback._resumed_history(1) == []
    wandb_runs.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ActorUnavailableError("RpcError: Socket closed", None), "its node was lost, and 3 others"),
        (ActorDiedError(), "its worker process ended"),
        (RayActorError(actor_init_failed=True), "ValueError: shapes differ"),
    ],
)
def test_a_lost_node_is_distinguished_from_a_dead_worker(error: Exception, reason: str) -> None:
    assert failure_reason(error, "Traceback\nValueError: shapes differ\n").startswith(reason)
