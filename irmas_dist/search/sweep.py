"""A sweep: Tune runs the trials, Optuna proposes them, ASHA stops the poor ones."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
import yaml
from pydantic import Field
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler

from irmas_dist import storage, tracking
from irmas_dist.config import Recipe, build_recipe
from irmas_dist.errors import IrmasError
from irmas_dist.search.searcher import Searcher, fail_stale_trials, open_storage
from irmas_dist.search.space import Space
from irmas_dist.search.trial import FINISHED, THIS_EPOCH, LearnerTrial
from irmas_dist.settings import Settings
from irmas_dist.terminal import progress
from irmas_dist.training.learner import SELECTED_BY
from irmas_dist.training.task import Task


class SweepSettings(Settings):
    """Settings of a sweep."""

    trials: int = Field(20, ge=1)
    """Number of trials."""
    concurrent: int | None = Field(None, ge=1)
    """Trials at a time; none means as many as the cluster has room for."""
    cpus: float = Field(1.0, gt=0.0)
    """CPUs of each trial."""
    gpus: float = Field(0.0, ge=0.0)
    """GPUs of each trial; a fraction lets several share one."""
    grace_epochs: int = Field(3, ge=1)
    """Epochs that every trial may run before ASHA compares it with others."""
    reduction: float = Field(3.0, gt=1.0)
    """Of the trials that reach a rung, ASHA lets one in this many go on."""
    study: str | None = None
    """Storage of the Optuna study: a path (SQLite; a journal when it ends in .log) or a
    database URL; none means ``study.db`` in the sweep's directory."""


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep found.

    Attributes:
        path: Directory with ``best.yaml``, ``trials.json`` and the study.
        trials: One dict per trial, best first: its number, state, value, epochs, seconds,
            and the values drawn for it.
        best: The recipe of the best trial.
        seconds: Wall time.
    """

    path: str
    trials: list[dict[str, Any]]
    best: Recipe
    seconds: float


def sweep(
    task: Task, recipe: Recipe, space: Space, out: Path, settings: SweepSettings
) -> SweepSummary:
    """Search a space for the recipe with the best macro F1 on the validation mixtures.

    Run again with the same ``out``, it adds trials to the same study.

    Args:
        task: What the trials learn; put into the object store once.
        recipe: What the space varies.
        space: What to search.
        out: Directory of the sweep.
        settings: How many trials, with what.

    Raises:
        IrmasError: The study cannot be opened, or no trial came to a result.
    """
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    name = out.name
    study_storage = open_storage(settings.study or str(out / "study.db"))
    searcher = Searcher(space, study_storage, name, recipe.seed)
    study = optuna.load_study(study_name=name, storage=study_storage)
    fail_stale_trials(study)
    earlier = len(study.get_trials(deepcopy=False))
    with progress("sweep", settings.trials, "trials") as advance:
        watcher = _Watcher(recipe, name, earlier, advance)
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(LearnerTrial, task=task, recipe=recipe.model_dump()),
                {"CPU": settings.cpus, "GPU": settings.gpus},
            ),
            tune_config=tune.TuneConfig(
                metric=SELECTED_BY,
                mode="max",
                search_alg=searcher,
                scheduler=ASHAScheduler(
                    max_t=recipe.training.epochs,
                    grace_period=min(settings.grace_epochs, recipe.training.epochs),
                    reduction_factor=settings.reduction,
                ),
                num_samples=settings.trials,
                # With a searcher and without this, Tune runs one trial at a time.
                max_concurrent_trials=settings.concurrent or _room(settings),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=f"tune-{earlier}",
                storage_path=storage.absolute(out),
                verbose=0,
                callbacks=[watcher],
            ),
        )
        try:
            tuner.fit()
        finally:
            watcher.close()
    trials = _trials(study)
    if not trials or trials[0]["value"] is None:
        raise IrmasError(f"no trial of {out} came to a result; the log file says why")
    best = build_recipe(recipe.model_dump(), trials[0]["params"], "the best trial")
    with storage.write_whole(out / "best.yaml") as stream:
        stream.write(yaml.safe_dump(json.loads(best.model_dump_json()), sort_keys=False).encode())
    storage.write_json(out / "trials.json", trials)
    return SweepSummary(str(out), trials, best, time.monotonic() - began)


class _Watcher(tune.Callback):
    """Follows the trials from the driver: progress for people, one W&B run per trial."""

    def __init__(
        self, recipe: Recipe, group: str, earlier: int, advance: Callable[[int], None]
    ) -> None:
        self._recipe, self._group, self._advance = recipe, group, advance
        self._number = earlier
        self._open: dict[str, tracking.Run] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of Tune's saved state what cannot be saved: open runs, a progress bar."""
        return {name: self.__dict__[name] for name in ("_recipe", "_group", "_number")}

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Open the trial's run."""
        if trial.trial_id not in self._open:
            self._open[trial.trial_id] = tracking.start_run(
                self._recipe.tracking,
                name=f"{self._group}-{self._number:03d}",
                job_type="trial",
                group=self._group,
                run_id=trial.trial_id,
                tags=["sweep"],
                config=tracking.flatten(self._recipe.model_dump()) | trial.config,
            )
            self._number += 1

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Log an epoch."""
        metrics = {
            name: value
            for name, value in result.items()
            if name.startswith(("train_", "val_", "epoch")) and isinstance(value, int | float)
        }
        metrics[SELECTED_BY] = metrics.pop(THIS_EPOCH)
        self._open[trial.trial_id].log(metrics)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Close the run of a trial that ended or was stopped."""
        ended = bool(trial.last_result.get(FINISHED))
        self._end(trial, "completed" if ended else "pruned")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Close the run of a trial that failed."""
        self._end(trial, "failed")

    def _end(self, trial: Trial, state: str) -> None:
        run = self._open.pop(trial.trial_id)
        run.summarise({"state": state})
        run.close(failed=state == "failed")
        self._advance(1)

    def close(self) -> None:
        """Close what is still open, as failed: the sweep itself was cut short."""
        for run in self._open.values():
            run.close(failed=True)


def _room(settings: SweepSettings) -> int:
    there = ray.cluster_resources()
    by_cpu = there.get("CPU", 1) / settings.cpus
    by_gpu = there.get("GPU", 0) / settings.gpus if settings.gpus else math.inf
    room = int(min(by_cpu, by_gpu))
    if room < 1:
        raise IrmasError(
            f"a trial needs {settings.cpus:g} CPUs and {settings.gpus:g} GPUs, and the cluster "
            f"has {there.get('CPU', 0):g} and {there.get('GPU', 0):g}"
        )
    return room


def _trials(study: optuna.Study) -> list[dict[str, Any]]:
    """All trials of a study, the best first."""
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "value": trial.value,
            "epochs": len(trial.intermediate_values),
            "seconds": trial.duration.total_seconds() if trial.duration else None,
            "params": trial.params,
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    return sorted(rows, key=lambda row: math.inf if row["value"] is None else -row["value"])
