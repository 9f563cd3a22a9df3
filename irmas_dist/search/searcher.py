"""Optuna as Tune's searcher, with every trial's end told as it was."""

import math
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.result import TRAINING_ITERATION
from ray.tune.search.optuna import OptunaSearch

from irmas_dist.errors import IrmasError
from irmas_dist.search.space import Space
from irmas_dist.search.trial import FINISHED
from irmas_dist.training.learner import SELECTED_BY


class Searcher(OptunaSearch):
    """Tune's OptunaSearch, except that trials cut short are PRUNED and NaN is a failure.

    The one of Ray tells Optuna that a trial which the scheduler stopped is complete with the
    value it had then, and leaves a trial that reported NaN running for ever.

    Args:
        space: What to search.
        storage: Where the study is kept.
        study_name: Name of the study; an existing one is gone on with.
        seed: Of the sampler.
    """

    def __init__(self, space: Space, storage: BaseStorage, study_name: str, seed: int) -> None:
        super().__init__(
            space=space,
            metric=SELECTED_BY,
            mode="max",
            storage=storage,
            study_name=study_name,
            # Conditional entries need group; what is searched together is modelled together.
            sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed),
        )

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass an epoch's value on, unless it is not a number."""
        if math.isfinite(result[SELECTED_BY]):
            super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna how a trial ended: COMPLETE, PRUNED or FAIL."""
        if trial_id in self._completed_trials:
            return
        last = result or {}
        value = last.get(SELECTED_BY, math.nan)
        trial = self._ot_trials[trial_id]
        if error or not math.isfinite(value):
            self._ot_study.tell(trial, state=TrialState.FAIL)
        else:
            # Tune hands on the last epoch here only, and a pruned trial has no other value.
            trial.report(value, last[TRAINING_ITERATION])
            if last.get(FINISHED):
                self._ot_study.tell(trial, value)
            else:
                self._ot_study.tell(trial, state=TrialState.PRUNED)
        self._completed_trials.add(trial_id)


def open_storage(location: str) -> BaseStorage:
    """Open the storage of a study.

    Args:
        location: A path ending in ``.log`` (journal file), any other path (SQLite), or the
            URL of a database that SQLAlchemy knows.

    Raises:
        IrmasError: The storage cannot be opened.
    """
    if location.endswith(".log"):
        return JournalStorage(JournalFileBackend(location))
    url = location if "://" in location else f"sqlite:///{location}"
    try:
        return RDBStorage(url)
    except (ImportError, optuna.exceptions.StorageInternalError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise IrmasError(f"cannot open the study at {location}: {reason}") from error


def fail_stale_trials(study: optuna.Study) -> None:
    """Tell Optuna that trials left RUNNING by a driver that died have failed."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
