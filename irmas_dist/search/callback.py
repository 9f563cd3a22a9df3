"""Tune's events, passed to W&B, the live table and, at the end of a trial, the study."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayTaskError
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict

from irmas_dist import storage
from irmas_dist.errors import IrmasError, last_line
from irmas_dist.search.live_table import LiveTable
from irmas_dist.search.searcher import MAX_NODES_LOST, StudySearcher
from irmas_dist.search.sweep_directory import trial_directory
from irmas_dist.search.trial import EPOCH, FAILED, FINISHED, INSTRUMENTS, SECOND, THIS_EPOCH, TRIAL
from irmas_dist.search.wandb_runs import SweepRuns
from irmas_dist.storage.results import MODEL_FILE, holds
from irmas_dist.terminal import say
from irmas_dist.training.checkpoint import CHECKPOINT_FILE, saved_history
from irmas_dist.training.learner import SELECTED_BY
from irmas_dist.training.loop import latest_history
from irmas_dist.training.model_description import read_description


class SweepCallback(tune.Callback):
    """Handles the events of Tune.

    Args:
        searcher: Receives trials that ended.
        wandb_runs: The runs of the trials.
        live_table: Shows the trials.
        root: Path or URL below which trials save checkpoints.
        best: Value and number of the best completed trial of earlier drivers.
    """

    def __init__(
        self,
        searcher: StudySearcher,
        wandb_runs: SweepRuns,
        live_table: LiveTable,
        root: str,
        best: tuple[float, int] | None = None,
    ) -> None:
        self._searcher, self._wandb_runs, self._live_table = searcher, wandb_runs, live_table
        self._root, self._best = root, best
        self._started: set[int] = set()
        self._unsaved: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Keep nothing in Tune's own files: the study is the state."""
        return {}

    def on_trial_start(self, *, trial: Trial, **info: Any) -> None:
        """Open the trial's run, or resume it after a pause, perhaps with other values."""
        number = _number(trial)
        self._started.add(number)
        values = {key: value for key, value in trial.config.items() if key != TRIAL}
        history: list[dict[str, float]] = []
        resumed = trial.config[TRIAL]["resume"] and not trial.last_result.get(EPOCH)
        if resumed and self._wandb_runs.logs:
            # Its driver died, perhaps with epochs that W&B does not have.
            history = self._resumed_history(number)
        self._wandb_runs.start(number, values, history)
        if trial.last_result.get("training_iteration", 0) == 0:
            self._live_table.start(number)

    def _resumed_history(self, number: int) -> list[dict[str, float]]:
        """Return the metrics of a trial's epochs before an interruption."""
        directory = trial_directory(self._root, number)
        try:
            if storage.exists(storage.join(directory, CHECKPOINT_FILE)):
                return saved_history(directory)
            # Several workers have other checkpoints, and at last a model.
            if holds(directory, MODEL_FILE):
                return read_description(directory).history
            return latest_history(directory)
        except Exception as error:  # noqa: BLE001 - the trial is worth more than its run
            say(f"W&B may lack epochs of trial {number} before the interruption: {error}")
            return []

    def on_trial_result(self, *, trial: Trial, result: dict[str, Any], **info: Any) -> None:
        """Log an epoch."""
        # A trial of several workers reports its last epoch again once it has a model.
        if FAILED in result or result[EPOCH] <= trial.last_result.get(EPOCH, 0):
            return
        metrics = {
            name: value
            for name, value in result.items()
            if name.startswith(("train_", "val_", "epoch")) and isinstance(value, int | float)
        }
        metrics[SELECTED_BY] = metrics.pop(THIS_EPOCH)
        self._live_table.epoch(_number(trial), result[EPOCH], result[SELECTED_BY])
        self._wandb_runs.log(_number(trial), metrics)

    def on_trial_complete(self, *, trial: Trial, **info: Any) -> None:
        """Close the run of a trial that ended or was stopped."""
        last = trial.last_result
        reason = last.get(FAILED)
        state = "failed" if reason else "completed" if last.get(FINISHED) else "pruned"
        with self._recording_error(), self._ending(trial, state, reason):
            self._searcher.end(trial.trial_id, flatten_dict(last))
        self._keep_best_checkpoint(_number(trial), state, last.get(SELECTED_BY))

    def on_trial_error(self, *, trial: Trial, **info: Any) -> None:
        """Record why a trial failed, or queue it again if its node was lost."""
        if self._unsaved:  # Tune takes it for one of the trial, which is resumed later.
            return
        error, text = _error(trial)
        if isinstance(error, RayTaskError) and isinstance(error.cause, IrmasError):
            # What its values cause is a result: this is a storage that fails.
            self._unsaved = error.cause
            return
        if _node_lost(error) and self._searcher.postpone(trial.trial_id):
            return
        if _number(trial) not in self._started:  # Its worker ended before it started the trial.
            self.on_trial_start(trial=trial)
        reason = failure_reason(error, text)
        with self._recording_error(), self._ending(trial, "failed", reason):
            self._searcher.fail(trial.trial_id, reason)
        self._keep_best_checkpoint(_number(trial), "failed", None)

    def on_step_end(self, **info: Any) -> None:
        """End the sweep when its study or checkpoints are out of reach: trials would be lost.

        Raises:
            IrmasError: They are.
        """
        if error := self._unsaved or self._searcher.error:
            raise IrmasError(
                f"the sweep is interrupted ({last_line(error)}); resume it when that is mended"
            ) from error

    @contextmanager
    def _recording_error(self) -> Iterator[None]:
        """Keep an error of the block, which Tune would ignore, for `on_step_end` to raise."""
        try:
            yield
        except Exception as error:
            self._unsaved = error
            raise

    def _ending(self, trial: Trial, state: str, reason: str | None) -> AbstractContextManager[None]:
        """Show the end of a trial, which the block records in the study, and close its run."""
        number, last = _number(trial), trial.last_result
        self._live_table.end(number, state, reason)
        facts = {"reason": reason} | {name: last.get(name) for name in SECOND.values()}
        facts["seconds"] = last.get("time_total_s")
        # With population-based training the best epoch may be one of a trial that it cloned.
        value = last.get(SELECTED_BY, math.nan)
        facts[SELECTED_BY] = value if math.isfinite(value) else None
        known = {name: value for name, value in facts.items() if value is not None}
        return self._wandb_runs.ending(number, state, known, last.get(INSTRUMENTS) or [])

    def _keep_best_checkpoint(self, number: int, state: str, value: float | None) -> None:
        """Delete the checkpoints of ended trials except those of the best completed one."""
        obsolete: int | None = number
        if state == "completed" and value is not None:
            # Of equally good trials the first is the best, as in the list of trials.
            best = max(self._best or (value, number), (value, number), key=lambda b: (b[0], -b[1]))
            if best != self._best:
                obsolete = None if self._best is None else self._best[1]
                self._best = best
        if obsolete is None:
            return
        directory = trial_directory(self._root, obsolete)
        try:
            if storage.exists(directory):
                storage.remove_directory(directory)
        except IrmasError as error:
            say(f"the checkpoint of trial {obsolete} is not deleted: {error}")


def _error(trial: Trial) -> tuple[Exception | None, str | None]:
    """Return what Tune wrote about a failure: the exception if it could be pickled, and its text.

    From the driver's files, not by `Trial.get_error`, which reads copies that may not exist yet.
    """
    pickled, written = trial.pickled_error_file, trial.error_file
    error = cloudpickle.loads(Path(pickled).read_bytes()) if pickled else None
    return error, Path(written).read_text() if written else None


def failure_reason(error: Exception | None, text: str | None) -> str:
    """Return in one line why a trial failed.

    Args:
        error: The exception, if it could be pickled.
        text: Its text, with traceback.
    """
    if isinstance(error, OutOfMemoryError):
        return "out of memory: Ray ended its worker before the machine was full"
    if _node_lost(error):
        return f"its node was lost, and {MAX_NODES_LOST} others before"
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        return "its worker process ended (out of memory, or killed)"
    if isinstance(error, RayTaskError) and error.cause is not None:
        cause = error.cause
        return f"{type(cause).__name__}: {last_line(cause) if str(cause).strip() else 'no message'}"
    return _last_line(text or "") or "for an unknown reason"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _node_lost(error: Exception | None) -> bool:
    """Return whether an actor was lost because its node was.

    Only the message says that a node died. An actor is unavailable when its connection broke and
    no death was reported within a second: its node reports the death of a worker alone at once.
    """
    if not isinstance(error, RayActorError):
        return False
    unavailable = isinstance(error, ActorUnavailableError)
    return error.preempted or unavailable or "its node has died" in str(error)


def _number(trial: Trial) -> int:
    return int(trial.config[TRIAL]["number"])
