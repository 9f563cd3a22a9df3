"""Optuna as Tune's searcher: proposes trials, goes on with cut ones, tells how each ended."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from irmas_dist.search.space import Space
from irmas_dist.search.study import OUTCOME, SWEEP, VALUES, with_epoch
from irmas_dist.search.trial import EPOCH, FAILED, FINISHED, INSTRUMENTS, TRIAL
from irmas_dist.training.learner import SELECTED_BY

MOST_NODES = 3
"""How many nodes a trial may be lost with before it is taken for their killer."""


class StudySearcher(Searcher):
    """Trials from an Optuna study, told back as they ended: COMPLETE, PRUNED or FAIL.

    The OptunaSearch of Ray tells Optuna that a trial which the scheduler stopped is complete,
    leaves one that reported NaN running for ever, and knows nothing of trials that an earlier
    driver left behind.

    Args:
        study: The study, with its sampler.
        space: What to search.
        sweep: Identity of the sweep, with which its trials are marked.
        budget: How many new trials to start.
        interrupted: Trials to go on with first.
        second: Name of the result that is the second objective.

    Attributes:
        left: How many new trials it has yet to start.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        sweep: str,
        budget: int,
        interrupted: list[FrozenTrial],
        second: str | None = None,
    ) -> None:
        super().__init__(metric=SELECTED_BY, mode="max")
        self._study, self._space, self._sweep, self._second = study, space, sweep, second
        self.left = budget
        self._interrupted = list(interrupted)
        self._live: dict[str, optuna.Trial] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._curves: dict[str, list[float]] = {}
        self._values: dict[str, dict[str, Any]] = {}
        self._nodes_lost: Counter[int] = Counter()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the values of the next trial, None to be asked again, or that it is enough."""
        if self._interrupted:
            trial = optuna.trial.Trial(self._study, self._interrupted.pop(0)._trial_id)
            resume = True
        elif self.left:
            trial, resume = self._study.ask(), False
            trial.set_user_attr(SWEEP, self._sweep)
            self.left -= 1
        else:
            # A trial whose node goes down comes back here.
            return None if self._live else Searcher.FINISHED
        drawn = self._space(trial)  # What it was given already is given again.
        frozen = self._study._storage.get_trial(trial._trial_id)
        self._live[trial_id] = trial
        self._curves[trial_id] = [value for _, value in sorted(frozen.intermediate_values.items())]
        self._values[trial_id] = frozen.user_attrs.get(VALUES, drawn)
        identity = {"number": trial.number, "resume": resume}
        return {**self._values[trial_id], TRIAL: identity}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Take in an epoch."""
        self._note(trial_id, result)

    def _note(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an epoch to the study, unless it did so before it was interrupted."""
        value, epoch = result.get(SELECTED_BY, math.nan), int(result.get(EPOCH, 0))
        curve = self._curves[trial_id]
        self._last[trial_id] = result
        self._note_values(trial_id, result)
        if not math.isfinite(value) or epoch <= len(curve):
            return
        self._curves[trial_id] = with_epoch(curve, epoch, value)
        if self._second is None:  # Optuna takes reports for a single objective only.
            for step in range(len(curve), epoch):
                self._live[trial_id].report(self._curves[trial_id][step], step + 1)

    def _note_values(self, trial_id: str, result: dict[str, Any]) -> None:
        """Write down the values that population-based training gave a trial."""
        # Tune flattens results; a name of the space holds no "/".
        values = {
            name: result[key] for name in self._space.entries if (key := f"config/{name}") in result
        }
        if values and values != self._values[trial_id]:
            self._values[trial_id] = values
            self._live[trial_id].set_user_attr(VALUES, values)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna how a trial ended; of one that raised, `fail` or `postpone` is called."""
        if error or trial_id not in self._live:
            return
        if result:
            self._note(trial_id, result)
        last = self._last.get(trial_id, {})
        value = last.get(SELECTED_BY, math.nan)
        if FAILED in last or not math.isfinite(value):
            self.fail(trial_id, str(last.get(FAILED, f"{SELECTED_BY} is not a number")))
            return
        trial = self._live.pop(trial_id)
        self._record(trial, trial_id)
        if not last.get(FINISHED):
            self._study.tell(trial, state=TrialState.PRUNED)
        elif self._second:
            self._study.tell(trial, [value, float(last[self._second])])
        else:
            self._study.tell(trial, value)

    def fail(self, trial_id: str, reason: str) -> None:
        """Tell Optuna that a trial failed, and why."""
        trial = self._live.pop(trial_id)
        self._record(trial, trial_id, reason=reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def postpone(self, trial_id: str) -> bool:
        """Put a trial back that was cut short with its node.

        Returns:
            Whether it was; one that has lost `MOST_NODES` of them may be what kills them.
        """
        number = self._live[trial_id].number
        if self._nodes_lost[number] == MOST_NODES:
            return False
        self._nodes_lost[number] += 1
        trial = self._live.pop(trial_id)
        del self._values[trial_id]
        self._interrupted.append(self._study._storage.get_trial(trial._trial_id))
        return True

    def _record(self, trial: optuna.Trial, trial_id: str, **more: Any) -> None:
        last = self._last.pop(trial_id, {})
        del self._values[trial_id]
        outcome: dict[str, Any] = {
            "seconds": last.get("time_total_s"),
            "parameters": last.get("parameters"),
            "curve": self._curves.pop(trial_id),
            "instruments": last.get(INSTRUMENTS),
            **more,
        }
        value = last.get(SELECTED_BY)
        if value is not None and math.isfinite(value):
            outcome["value"] = value
        trial.set_user_attr(OUTCOME, outcome)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the study is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing: the study is the state."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave all but the study's name out of what Tune writes down: the study is the state."""
        return {"study": self._study.study_name}
