"""Tune runs the trials that the study of a sweep proposes."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback

from irmas_dist.cluster.resources import most_trials, trial_capacity
from irmas_dist.cluster.runtime import default_variables, own_interrupts
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.sweep import PAUSING, SweepSettings
from irmas_dist.config.training import WorkerSettings
from irmas_dist.search.callback import SweepCallback
from irmas_dist.search.distributed_trial import distributed_trial
from irmas_dist.search.gpu_sharing import share_gpus
from irmas_dist.search.live_table import LiveTable
from irmas_dist.search.schedulers import build_scheduler, most_epochs, replay
from irmas_dist.search.searcher import StudySearcher
from irmas_dist.search.space import Space
from irmas_dist.search.study import interrupted_trials, list_trials, own_trials
from irmas_dist.search.sweep_directory import SweepRecord, trials_root, trials_storage
from irmas_dist.search.trial import SECOND, TRIAL, LearnerTrial
from irmas_dist.search.wandb_runs import SweepRuns
from irmas_dist.terminal import watching
from irmas_dist.training.data import TrainingData

DRIVER_BYTES = 256 << 20
"""Memory reserved for the driver of a trial of several workers."""

QUIET_TUNE = {
    # One of Tune's own files per trial is enough.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A sweep is resumed from the study; Tune writes its state once, at the end.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

PENDING_TUNE = {"TUNE_MAX_PENDING_TRIALS_PG": "1000"}
"""Where no number of concurrent trials is given, Tune starts one process after the other."""


def run_trials(
    data: TrainingData,
    recipe: Recipe,
    space: Space,
    out: Path,
    record: SweepRecord,
    study: optuna.Study,
    wandb_runs: SweepRuns,
    one_machine: bool,
) -> int:
    """Run trials up to the number of the settings.

    Args:
        data: The training data.
        recipe: The recipe that the space varies.
        space: The search space.
        out: Sweep directory.
        record: The sweep.
        study: Its study.
        wandb_runs: The runs of its trials.
        one_machine: Whether Ray runs on this machine alone.

    Returns:
        How many trials were not started.
    """
    settings = record.settings
    own = own_trials(study, record.identity)
    interrupted = interrupted_trials(study, record.identity)
    wandb_runs.complete({trial.number for trial in interrupted})
    total, grid = settings.trials, settings.sampler == "grid"
    if grid:
        waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        total = min(total, len(own) + len(waiting))
    budget = max(total - len(own), 0)
    if not budget and not interrupted:
        return 0
    settings = share_gpus(settings, data, recipe)
    second = SECOND[settings.against] if settings.against else None
    epochs = most_epochs(space, recipe.training.epochs)
    concurrent, most = _concurrency(settings, budget + len(interrupted), one_machine)
    searcher = StudySearcher(study, space, record.identity, budget, interrupted, second, grid, most)
    scheduler = build_scheduler(settings, space, epochs)
    replay(scheduler, study, [trial.number for trial in interrupted])
    numbers = {trial.number for trial in own}
    earlier = [row for row in list_trials(study, space) if row["number"] in numbers]
    live_table = LiveTable(max(total, len(own)), epochs, earlier)
    completed = (
        (row["value"], row["number"])
        for row in earlier
        if row["value"] is not None and row["state"] == "completed"
    )
    root = trials_root(out, record)
    callback = SweepCallback(searcher, wandb_runs, live_table, root, next(completed, None))
    tuner = tune.Tuner(
        _trainable(data, recipe, root, settings),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,  # The searcher ends the sweep.
            max_concurrent_trials=concurrent,
            # The process of several workers' trial lives as long as its training goes on.
            reuse_actors=settings.workers == 1,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=_run_config(trials_storage(out, record), callback),
    )
    variables = QUIET_TUNE | (PENDING_TUNE if concurrent is None else {})
    with default_variables(variables), watching(live_table.render) as live, own_interrupts():
        live_table.lines = not live
        tuner.fit()
    callback.on_step_end()  # Where no trial could be drawn, there was no step.
    return searcher.left


def _concurrency(
    settings: SweepSettings, trials: int, one_machine: bool
) -> tuple[int | None, Callable[[], int] | None]:
    """Return how many trials run at the same time; if that follows the cluster, what asks it."""
    if settings.scheduler in PAUSING:  # It needs all trials, which wait for resources then.
        return trials, None
    if settings.concurrent:
        return settings.concurrent, None
    if one_machine:
        return trial_capacity(settings), None
    return None, partial(most_trials, settings)


def _run_config(storage_path: str, callback: SweepCallback) -> tune.RunConfig:
    return tune.RunConfig(
        name=time.strftime("tune-%Y%m%d-%H%M%S"),
        storage_path=storage_path,
        verbose=0,
        callbacks=[callback, JsonLoggerCallback()],
        # Trials save checkpoints themselves; these are for schedulers that pause trials.
        checkpoint_config=tune.CheckpointConfig(num_to_keep=3, checkpoint_at_end=False),
    )


def _trainable(data: TrainingData, recipe: Recipe, root: str, settings: SweepSettings) -> Any:
    """Return Tune's trainable: a reused actor, or a driver of several workers."""
    common = {"data": data, "recipe": recipe.model_dump(), "root": root}
    if settings.workers == 1:
        gpus = settings.gpus or 0.0
        latency = settings.against == "latency"
        own = {"cpus": settings.cpus, "gpu": gpus > 0, "latency": latency}
        single = tune.with_parameters(LearnerTrial, **common, **own)
        return tune.with_resources(single, {"CPU": settings.cpus, "GPU": gpus})
    # As trials of one worker do, it waits for resources that others have.
    workers = WorkerSettings(
        count=settings.workers, cpus=settings.cpus, gpu=bool(settings.gpus), wait_timeout_s=None
    )
    distributed = tune.with_parameters(distributed_trial, **common, workers=workers)
    # The workers reserve their own resources, and Tune refuses to reserve none at all.
    return tune.with_resources(distributed, {"CPU": 0, "memory": DRIVER_BYTES})


def _trial_name(trial: Trial) -> str:
    return f"{trial.config[TRIAL]['number']:04d}"
