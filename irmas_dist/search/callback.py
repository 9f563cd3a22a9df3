"""Follows the trials from the driver: for people, for W&B, and for the study when one fails."""

from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayTaskError
from ray.tune.experiment import Trial

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.search.live_table import LiveTable
from irmas_dist.search.searcher import MOST_NODES, StudySearcher
from irmas_dist.search.sweep_directory import progress_directory
from irmas_dist.search.trial import EPOCH, FAILED, FINISHED, INSTRUMENTS, THIS_EPOCH, TRIAL
from irmas_dist.search.wandb_runs import SweepRuns
from irmas_dist.terminal import say
from irmas_dist.training.learner import SELECTED_BY


class SweepCallback(tune.Callback):
    """Hears of every event of Tune.

    Args:
        searcher: Told of trials that raised.
        runs: W&B.
        view: The terminal.
        progress: Where trials keep their progress.
    """

    def __init__(
        self, searcher: StudySearcher, runs: SweepRuns, view: LiveTable, progress: str
    ) -> None:
        self._searcher, self._runs, self._view = searcher, runs, view
        self._progress = progress
        self._begun: set[int] = set()
        self._best: tuple[float, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave all out of what Tune writes down: the study is the state."""
        return {}

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Open the trial's run, or go on with it after a pause, maybe with other values."""
        values = {key: value for key, value in trial.config.items() if key != TRIAL}
        self._begun.add(_number(trial))
        self._runs.start(_number(trial), values)
        if trial.last_result.get("training_iteration", 0) == 0:
            self._view.start(_number(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Log an epoch."""
        # A trial of several workers tells its last epoch again once it has a model.
        if FAILED in result or result[EPOCH] <= trial.last_result.get(EPOCH, 0):
            return
        metrics = {
            name: value
            for name, value in result.items()
            if name.startswith(("train_", "val_", "epoch")) and isinstance(value, int | float)
        }
        metrics[SELECTED_BY] = metrics.pop(THIS_EPOCH)
        self._view.epoch(_number(trial), result[EPOCH], metrics[SELECTED_BY])
        self._runs.log(_number(trial), metrics)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Close the run of a trial that ended or was stopped."""
        last = trial.last_result
        reason = last.get(FAILED)
        state = "failed" if reason else "completed" if last.get(FINISHED) else "pruned"
        self._end(trial, state, reason)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Record why a trial failed, or put it back when it was its node that did."""
        error, text = _error(trial)
        if _of_node(error) and self._searcher.postpone(trial.trial_id):
            return
        if _number(trial) not in self._begun:  # Its worker ended before it could start it.
            self.on_trial_start(iteration, trials, trial)
        reason = describe_error(error, text)
        self._searcher.fail(trial.trial_id, reason)
        self._end(trial, "failed", reason)

    def _end(self, trial: Trial, state: str, reason: str | None) -> None:
        number, last = _number(trial), trial.last_result
        self._view.end(number, state, reason)
        facts = {
            "reason": reason,
            "parameters": last.get("parameters"),
            "latency_ms": last.get("latency_ms"),
            "seconds": last.get("time_total_s"),
        }
        known = {name: value for name, value in facts.items() if value is not None}
        self._runs.end(number, state, known, last.get(INSTRUMENTS) or [])
        self._keep_the_best(number, state, last.get(SELECTED_BY))

    def _keep_the_best(self, number: int, state: str, value: float | None) -> None:
        """Delete the progress of trials that are over, but for the best completed one."""
        over: int | None = number
        if state == "completed" and value is not None:
            # Of equally good ones the first, as in the table.
            now = max((value, -number), self._best or (value, -number))
            if now != self._best:
                over = None if self._best is None else -self._best[1]
                self._best = now
        if over is None:
            return
        place = progress_directory(self._progress, over)
        try:
            if storage.exists(place):
                storage.remove_directory(place)
        except IrmasError as error:
            say(f"the progress of trial {over} stays where it is: {error}")

    def remember_best(self, value: float, number: int) -> None:
        """Take note of the best trial that an earlier driver left."""
        self._best = value, -number


def _error(trial: Trial) -> tuple[Exception | None, str | None]:
    """What Tune has written of a trial's failure: the exception if it could be kept, and its text.

    From the files here, not by `Trial.get_error`: that reads copies which may not be there yet.
    """
    kept, written = trial.pickled_error_file, trial.error_file
    error = cloudpickle.loads(Path(kept).read_bytes()) if kept else None
    return error, Path(written).read_text() if written else None


def describe_error(error: Exception | None, text: str | None) -> str:
    """Return in one line why a trial failed.

    Args:
        error: The exception, if it could be kept.
        text: What was written of it.
    """
    if isinstance(error, OutOfMemoryError):
        return "out of memory: Ray ended its worker before the machine was full"
    if _of_node(error):
        return f"its node was lost, and {MOST_NODES} others before"
    if isinstance(error, RayActorError):
        return "its worker process ended (out of memory, or killed)"
    if isinstance(error, RayTaskError) and error.cause is not None:
        cause = error.cause
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        said = lines[-1] if lines else "without a word"
        return f"{type(cause).__name__}: {said}"
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1] if lines else "for an unknown reason"


def _of_node(error: Exception | None) -> bool:
    """Return whether an actor was lost with its node, and through no fault of its own.

    That a node died, only the message says. An actor is unavailable when its connection broke and
    nobody told of its death within a second: that of a worker alone its own node tells at once.
    """
    if not isinstance(error, RayActorError):
        return False
    unheard = isinstance(error, ActorUnavailableError)
    return error.preempted or unheard or "its node has died" in str(error)


def _number(trial: Trial) -> int:
    return int(trial.config[TRIAL]["number"])
