"""Tune's schedulers, which stop poor trials early, with the reports of earlier drivers."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

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

from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search.entries import CategoricalEntry, FloatEntry
from irmas_dist.search.space import Space
from irmas_dist.search.trial import EPOCH, TRIAL
from irmas_dist.training.learner import SELECTED_BY

MUTABLE = ("training.lr", "training.weight_decay", "augment.", "model.dropout.")
"""Prefixes of settings that can change while a network is being trained."""


def build_scheduler(settings: SweepSettings, space: Space, epochs: int) -> TrialScheduler:
    """Build the scheduler of a sweep.

    ``asha``: at growing numbers of epochs, stop all but the best share (Li et al. 2020);
    ``hyperband``: the same synchronously, with several brackets (Li et al. 2018); ``median``:
    stop trials below the median of the others' running means (Golovin et al. 2017); ``pbt``: every
    ``grace_epochs``, poor trials take over weights and values of good ones and perturb the values
    (Jaderberg et al. 2017).

    Args:
        settings: The sweep's settings.
        space: The search space.
        epochs: Most epochs of a trial.

    Raises:
        IrmasError: The space has no value that population-based training can change.
    """
    common: dict[str, Any] = {"time_attr": EPOCH, "metric": SELECTED_BY, "mode": "max"}
    name, reduction = settings.scheduler, settings.reduction
    grace = min(settings.grace_epochs, epochs)
    if name == "asha":
        return Asha(**common, max_t=epochs, grace_period=grace, reduction_factor=reduction)
    if name == "hyperband":
        # A bracket's last rung may be below the most epochs: its best trials go on to these.
        options = {"max_t": epochs, "reduction_factor": reduction, "stop_last_trials": False}
        return HyperBandScheduler(**common, **options)
    if name == "median":
        return Median(**common, grace_period=grace)
    if name == "pbt":
        return Population(space, **common, perturbation_interval=grace)
    return FIFOScheduler()


def most_epochs(space: Space, epochs: int) -> int:
    """Return the most epochs that a trial can have.

    Args:
        space: The search space, which may include the number of epochs.
        epochs: The number of epochs of the recipe.
    """
    entry = space.entries.get("training.epochs")
    if entry is None:
        return epochs
    drawn = max(int(value) for value in entry.samples() if isinstance(value, int | float))
    return max(drawn, epochs) if entry.when else drawn


class _Recalling(TrialScheduler, ABC):
    """A scheduler that recalls reports to earlier drivers, or from nodes that were lost."""

    study: optuna.Study | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._last_of: dict[int, Trial] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Add a trial; recall the reports of a resumed one, so that no epoch counts twice."""
        identity = trial.config[TRIAL]
        if self.study is not None and identity["resume"]:
            if lost := self._last_of.get(identity["number"]):  # Tune has a new trial for it.
                self.forget(lost)
            self.recall(trial, self.study.get_trials(deepcopy=False)[identity["number"]])
        self._last_of[identity["number"]] = trial
        super().on_trial_add(tune_controller, trial)

    @abstractmethod
    def forget(self, trial: Trial) -> None:
        """Remove the reports of a trial whose node was lost."""

    def recall(self, trial: Trial, frozen: FrozenTrial) -> None:
        """Record what a trial has reported, without deciding about it.

        Each epoch is recorded as the end of a trial: on a result of a running trial the median
        rule may stop it, and then fails at its next result.
        """
        for epoch, value in sorted(frozen.intermediate_values.items()):
            super().on_trial_add(_NO_CONTROLLER, trial)
            self.on_trial_complete(_NO_CONTROLLER, trial, {EPOCH: epoch, SELECTED_BY: value})


class Asha(_Recalling, ASHAScheduler):
    """Tune's ASHA."""

    def forget(self, trial: Trial) -> None:  # noqa: D102 - as in the base class
        for bracket in self._brackets:
            for _, recorded in bracket._rungs:
                recorded.pop(trial.trial_id, None)


class Median(_Recalling, MedianStoppingRule):
    """Tune's median rule; it never pauses a trial to let another run."""

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Decide by a new epoch; a resumed trial may report some that are recalled already."""
        if any(known[EPOCH] >= result[EPOCH] for known in self._results.get(trial, ())):
            return TrialScheduler.CONTINUE
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return decision

    def _on_insufficient_samples(self, tune_controller: Any, trial: Trial, time: float) -> str:
        return TrialScheduler.CONTINUE

    def forget(self, trial: Trial) -> None:  # noqa: D102 - as in the base class
        self._results.pop(trial, None)


class Population(PopulationBasedTraining):
    """Tune's PBT; values stay inside the space, and every trial keeps its own identity."""

    def __init__(self, space: Space, **options: Any) -> None:
        # Another value of these would need other entries than were drawn.
        conditions = {other for entry in space.entries.values() for other in entry.when}
        self._entries = {
            name: entry
            for name, entry in space.entries.items()
            if name.startswith(MUTABLE) and not entry.when and name not in conditions
            and isinstance(entry, FloatEntry | CategoricalEntry)
        }  # fmt: skip
        if not self._entries:
            raise IrmasError(
                "pbt changes values during training, and this space has none that can change: "
                f"{', '.join(MUTABLE)}, without a when and in no other's"
            )
        super().__init__(
            **options, hyperparam_mutations={n: _domain(e) for n, e in self._entries.items()}
        )

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Add a trial; Tune's PBT refuses searchers, which do not receive the new values."""
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
    """Replay the reports of earlier trials to a new scheduler, which then decides as the old one.

    Only ASHA and the median rule remember ended trials. The reports of ``interrupted`` trials are
    recalled when these are resumed.
    """
    if not isinstance(scheduler, Asha | Median):
        return
    scheduler.study = study
    later = set(interrupted)
    for frozen in study.get_trials(deepcopy=False):
        if frozen.intermediate_values and frozen.number not in later:
            scheduler.recall(_PastTrial(f"past {frozen.number}"), frozen)


class _PastTrial(NamedTuple):
    """A trial of an earlier driver, with the attribute that schedulers read."""

    trial_id: str


_NO_CONTROLLER = SimpleNamespace(search_alg=None)
"""The controller of an earlier driver, without a searcher."""
