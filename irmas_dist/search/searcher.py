"""Optuna as Tune's searcher: proposes trials, resumes interrupted ones, records how they end."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from irmas_dist.search.space import Space
from irmas_dist.search.study import CURVE, OUTCOME, SWEEP, VALUES, reported_curve, with_epoch
from irmas_dist.search.trial import EPOCH, FAILED, FINISHED, INSTRUMENTS, TRIAL
from irmas_dist.training.learner import SELECTED_BY

MAX_NODES_LOST = 3
"""A trial that loses more nodes than this fails: it may be the cause."""


@dataclass
class _LiveTrial:
    """A running trial: its curve, current values and last result."""

    trial: optuna.Trial
    curve: list[float]
    values: dict[str, Any]
    last: dict[str, Any] = field(default_factory=dict)


class StudySearcher(Searcher):
    """Trials from an Optuna study, which end there as COMPLETE, PRUNED or FAIL.

    Ray's OptunaSearch marks trials that the scheduler stops as complete, leaves those that
    report NaN running for ever, and does not resume trials of earlier drivers.

    Args:
        study: The study, with its sampler.
        space: The search space.
        sweep: Identity of the sweep, which marks its trials.
        budget: Number of new trials to start.
        interrupted: Trials to resume first.
        second: Name of the second objective's value in a result, if there is one.
        grid: Whether only queued points run, which another driver of the study may take first.
        most: Returns how many trials may live now; None for any number.

    Attributes:
        left: Number of new trials not yet started.
        error: Why the study cannot be used, which Tune would take for one of a trial; or None.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        sweep: str,
        budget: int,
        interrupted: list[FrozenTrial],
        second: str | None = None,
        grid: bool = False,
        most: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(metric=SELECTED_BY, mode="max")
        self._study, self._space, self._sweep, self._second = study, space, sweep, second
        self.left, self._grid, self._most = budget, grid, most
        self.error: Exception | None = None
        self._interrupted = list(interrupted)
        self._live: dict[str, _LiveTrial] = {}
        self._nodes_lost: Counter[int] = Counter()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the values of the next trial, None if there may be one later, or `FINISHED`."""
        try:
            return self._suggest(trial_id)
        except Exception as error:  # noqa: BLE001 - it ends the sweep
            self.error = error
            return Searcher.FINISHED

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._live and self._most and len(self._live) >= self._most():
            return None
        if self._interrupted:
            trial = optuna.trial.Trial(self._study, self._interrupted.pop(0)._trial_id)
            resume = True
        elif self.left and (new := self._new()):
            trial, resume = new, False
            trial.set_user_attr(SWEEP, self._sweep)
            self.left -= 1
        else:
            self.left = 0
            # A trial whose node is lost is suggested again.
            return None if self._live else Searcher.FINISHED
        drawn = self._space(trial)  # Values drawn before an interruption are drawn again.
        frozen = self._frozen(trial)
        curve = reported_curve(frozen)
        values = frozen.user_attrs.get(VALUES, drawn)
        self._live[trial_id] = _LiveTrial(trial, curve, values)
        return {**values, TRIAL: {"number": trial.number, "resume": resume}}

    def _new(self) -> optuna.Trial | None:
        """Return a new trial; None if all points of a grid are taken."""
        if not self._grid:
            return self._study.ask()
        queued = self._study._pop_waiting_trial_id()
        return None if queued is None else optuna.trial.Trial(self._study, queued)

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        return self._study._storage.get_trial(trial._trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an epoch to the study, unless it was reported before an interruption."""
        try:
            self._report(trial_id, result)
        except Exception as error:  # noqa: BLE001 - it ends the sweep
            self.error = error

    def _report(self, trial_id: str, result: dict[str, Any]) -> None:
        live = self._live[trial_id]
        value, epoch = result.get(SELECTED_BY, math.nan), int(result.get(EPOCH, 0))
        live.last = result
        # Tune flattens results; names of entries have no "/".
        values = {
            name: result[key] for name in self._space.entries if (key := f"config/{name}") in result
        }
        if values and values != live.values:  # Population-based training has changed them.
            live.values = values
            live.trial.set_user_attr(VALUES, values)
        reported = len(live.curve)
        if not math.isfinite(value) or epoch <= reported:
            return
        live.curve = with_epoch(live.curve, epoch, value)
        if self._second is not None:  # Optuna takes reports for a single objective only.
            live.trial.set_user_attr(CURVE, live.curve)
            return
        for step in range(reported, epoch):
            live.trial.report(live.curve[step], step + 1)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: `SweepCallback` calls `end`, `fail` or `postpone`."""

    def end(self, trial_id: str, result: dict[str, Any] | None = None) -> None:
        """Record how a trial that did not raise ended.

        Args:
            trial_id: Tune's name of the trial.
            result: Its last result, if there is one.
        """
        if result:
            self._report(trial_id, result)
        last = self._live[trial_id].last
        value = last.get(SELECTED_BY, math.nan)
        if FAILED in last or not math.isfinite(value):
            self.fail(trial_id, str(last.get(FAILED, f"{SELECTED_BY} is not a number")))
            return
        if not last.get(FINISHED):
            self._tell(trial_id, state=TrialState.PRUNED)
        elif self._second:
            self._tell(trial_id, values=[value, float(last[self._second])])
        else:
            self._tell(trial_id, values=value)

    def fail(self, trial_id: str, reason: str) -> None:
        """Record that a trial failed, and why."""
        self._tell(trial_id, {"reason": reason}, state=TrialState.FAIL)

    def postpone(self, trial_id: str) -> bool:
        """Queue a trial again whose node was lost.

        Returns:
            Whether it was queued; not after `MAX_NODES_LOST` nodes.
        """
        trial = self._live[trial_id].trial
        if self._nodes_lost[trial.number] == MAX_NODES_LOST:
            return False
        self._nodes_lost[trial.number] += 1
        del self._live[trial_id]
        self._interrupted.append(self._frozen(trial))
        return True

    def _tell(self, trial_id: str, more: Mapping[str, Any] | None = None, **end: Any) -> None:
        """Store the outcome of a trial, and end it in the study."""
        live = self._live[trial_id]
        outcome: dict[str, Any] = {
            "seconds": live.last.get("time_total_s"),
            "parameters": live.last.get("parameters"),
            "curve": live.curve,
            "instruments": live.last.get(INSTRUMENTS),
            **(more or {}),
        }
        value = live.last.get(SELECTED_BY)
        if value is not None and math.isfinite(value):
            outcome["value"] = value
        live.trial.set_user_attr(OUTCOME, outcome)
        self._study.tell(live.trial, **end)
        del self._live[trial_id]

    def save(self, checkpoint_path: str) -> None:
        """Save an empty file: the study is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the study is the state."""

    def __getstate__(self) -> dict[str, Any]:
        """Keep only the study's name in Tune's own files: the study is the state."""
        return {"study": self._study.study_name}
