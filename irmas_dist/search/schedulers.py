"""Which trials go on: Tune's schedulers, and what they had learned before a sweep was cut."""

from collections.abc import Iterable
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from irmas_dist.config.sweep import SchedulerName
from irmas_dist.errors import IrmasError
from irmas_dist.search.space import CategoricalEntry, FloatEntry, Space
from irmas_dist.search.trial import EPOCH, TRIAL
from irmas_dist.training.learner import SELECTED_BY

MUTABLE = ("training.lr", "training.weight_decay", "augment.", "model.dropout.")
"""What can change while a network is being trained, by the beginning of its name."""

PAUSING = ("hyperband", "pbt")
"""Schedulers that pause trials to let others run."""


def build_scheduler(
    name: SchedulerName, space: Space, epochs: int, grace: int, reduction: float
) -> TrialScheduler:
    """Make a scheduler.

    Args:
        name: ``asha``: at growing numbers of epochs, stop all but the best share (Li et al.
            2020); ``hyperband``: the same in lock step, with several such ladders (Li et al.
            2018); ``median``: stop what is below the median of the others' running means
            (Golovin et al. 2017); ``pbt``: let poor trials take over weights and values of
            good ones and change the values (Jaderberg et al. 2017); ``none``.
        space: What is searched.
        epochs: Most epochs of a trial.
        grace: Epochs that every trial may run first; with ``pbt``, epochs between takeovers.
        reduction: With ``asha`` and ``hyperband``, one in this many trials goes on.

    Raises:
        IrmasError: Population-based training would have nothing to change.
    """
    common: dict[str, Any] = {"time_attr": EPOCH, "metric": SELECTED_BY, "mode": "max"}
    grace = min(grace, epochs)
    if name == "asha":
        return Asha(**common, max_t=epochs, grace_period=grace, reduction_factor=reduction)
    if name == "hyperband":
        return HyperBandScheduler(**common, max_t=epochs, reduction_factor=reduction)
    if name == "median":
        # A time slice as long as a trial: it never pauses one to let another run.
        return Median(**common, grace_period=grace, min_time_slice=epochs)
    if name == "pbt":
        return Population(space, **common, perturbation_interval=grace)
    return FIFOScheduler()


def most_epochs(space: Space, epochs: int) -> int:
    """Return the most epochs that a trial can have.

    Args:
        space: What is searched, maybe the number of epochs.
        epochs: The recipe's own number.
    """
    entry = space.entries.get("training.epochs")
    if entry is None:
        return epochs
    among = entry.choices if isinstance(entry, CategoricalEntry) else [entry.high]
    drawn = max(int(value) for value in among if isinstance(value, int | float))
    return max(drawn, epochs) if entry.when else drawn


class _Recalling(TrialScheduler):
    """A scheduler that knows what was reported before, to earlier drivers or from a lost node."""

    study: optuna.Study | None = None

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take in a trial; with its past, if it has one, so that no epoch is judged twice."""
        identity = trial.config[TRIAL]
        if self.study is not None and identity["resume"]:
            self.recall(trial, self.study.get_trials(deepcopy=False)[identity["number"]])
        super().on_trial_add(tune_controller, trial)

    def recall(self, trial: Trial, frozen: FrozenTrial) -> None:
        """Take in what a trial has reported, without judging it.

        As if it had come to its end after each epoch: by results of trials that go on, the
        median rule stops them, and fails when it hears of one again.
        """
        for epoch, value in sorted(frozen.intermediate_values.items()):
            super().on_trial_add(_NO_CONTROLLER, trial)
            self.on_trial_complete(_NO_CONTROLLER, trial, {EPOCH: epoch, SELECTED_BY: value})


class Asha(_Recalling, ASHAScheduler):
    """Tune's ASHA."""


class Median(_Recalling, MedianStoppingRule):
    """Tune's median rule."""


class Population(PopulationBasedTraining):
    """Tune's PBT, kept inside the space, with every trial keeping its own identity."""

    def __init__(self, space: Space, **options: Any) -> None:
        self._entries = {
            name: entry
            for name, entry in space.entries.items()
            if name.startswith(MUTABLE) and not entry.when
            and isinstance(entry, FloatEntry | CategoricalEntry)
        }  # fmt: skip
        if not self._entries:
            raise IrmasError(
                "pbt changes values during training, and this space has none that can change: "
                f"{', '.join(MUTABLE)}"
            )
        super().__init__(
            **options, hyperparam_mutations={n: _domain(e) for n, e in self._entries.items()}
        )

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take in a trial; Tune's own refuses a searcher, which would not hear of new values."""
        super().on_trial_add(_NO_CONTROLLER, trial)

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[dict, dict]:
        config, operations = super()._get_new_config(trial, trial_to_clone)
        for name, entry in self._entries.items():
            if isinstance(entry, FloatEntry):
                config[name] = entry.nearest(config[name])
        config[TRIAL] = {**trial.config[TRIAL], "resume": False}
        return config, operations


def _domain(entry: FloatEntry | CategoricalEntry) -> Any:
    if isinstance(entry, CategoricalEntry):
        return list(entry.choices)
    if entry.log:
        return tune.loguniform(entry.low, entry.high)
    return tune.uniform(entry.low, entry.high)


def replay(scheduler: TrialScheduler, study: optuna.Study, interrupted: Iterable[int] = ()) -> None:
    """Show a new scheduler what earlier trials reported, so that it judges as the old one did.

    Args:
        scheduler: ASHA or the median rule; the others keep no memory of ended trials.
        study: The study, whose trials reported after every epoch.
        interrupted: Trials that are to go on; each brings its own past when it does.
    """
    if not isinstance(scheduler, Asha | Median):
        return
    scheduler.study = study
    later = set(interrupted)
    for frozen in study.get_trials(deepcopy=False):
        if frozen.intermediate_values and frozen.number not in later:
            scheduler.recall(_PastTrial(f"past {frozen.number}"), frozen)


class _PastTrial:
    """What a scheduler needs to know of a trial that another driver ran."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


class _NoController:
    """The controller of an earlier driver, which has no searcher any more."""

    search_alg = None


_NO_CONTROLLER = _NoController()
