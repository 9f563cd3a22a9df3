"""A sweep: Tune runs the trials, Optuna proposes them, a scheduler stops the poor ones."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback

from irmas_dist import storage
from irmas_dist.cluster.resources import trial_capacity
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.config.training import WorkerSettings
from irmas_dist.config.yaml_files import dump_yaml
from irmas_dist.errors import IrmasError
from irmas_dist.search import sweep_directory as records
from irmas_dist.search.callback import SweepCallback
from irmas_dist.search.checks import check_settings
from irmas_dist.search.distributed_trial import distributed_trial
from irmas_dist.search.live_table import LiveTable
from irmas_dist.search.samplers import best_points, build_sampler, enqueue
from irmas_dist.search.schedulers import PAUSING, build_scheduler, most_epochs, replay
from irmas_dist.search.searcher import StudySearcher
from irmas_dist.search.space import Space
from irmas_dist.search.study import (
    best_row,
    directions,
    fail_unmarked_trials,
    importances,
    interrupted_trials,
    join_study,
    list_trials,
    open_storage,
    open_study,
    own_trials,
)
from irmas_dist.search.sweep_directory import SweepRecord, progress_directory
from irmas_dist.search.trial import TRIAL, LearnerTrial, device, resume
from irmas_dist.search.wandb_runs import SweepRuns
from irmas_dist.terminal import say, watching
from irmas_dist.training.checkpoint import FILE_NAME
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import Learner
from irmas_dist.training.model_directory import describe, pack_weights, save_model

SECOND = {"parameters": "parameters", "latency": "latency_ms"}
"""Name of the result that is the second objective."""

DRIVER_BYTES = 256 << 20
"""Memory that is reserved for the driver of a trial of several workers."""

QUIET_TUNE = {
    # Of Tune's own files one per trial is enough.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The study is the state to come back to; Tune's is written once, at the end.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep found.

    Attributes:
        path: Directory with ``best.yaml``, ``trials.json``, ``model`` and the study.
        trials: One dict per trial, best first, as from `list_trials`.
        importances: Share of each entry in what decides about macro F1.
        best: The recipe of the best trial.
        model: Directory of the best trial's model; None when only stopped trials have a value.
        seconds: Wall time.
    """

    path: str
    trials: list[dict[str, Any]]
    importances: dict[str, float]
    best: Recipe
    model: str | None
    seconds: float


def sweep(
    task: TrainingData,
    recipe: Recipe,
    space: Space,
    out: Path,
    settings: SweepSettings,
    resume: bool = False,
) -> SweepSummary:
    """Search a space for the recipe with the best macro F1 on the validation mixtures.

    Args:
        task: What the trials learn; put into the object store once.
        recipe: What the space varies.
        space: What to search.
        out: Directory of the sweep.
        settings: How many trials, with what.
        resume: Go on with the sweep in ``out``: trials that were cut short continue from
            their last progress, and new ones follow until there are as many as asked for.

    Raises:
        IrmasError: The directory holds a sweep already, or none to resume; the study cannot be
            opened; the settings do not go together; no trial came to a result.
        KeyboardInterrupt: It was interrupted; what is done is kept.
    """
    began = time.monotonic()
    data = {"manifest": task.store.manifest, "features": task.store.fingerprint}
    make = records.resume if resume else records.begin
    record = make(out, recipe, space, settings, data)
    check_settings(settings, space, recipe)
    out.mkdir(parents=True, exist_ok=True)
    with records.only_driver(out):
        study = _study(record, space, recipe, out)
        records.write_record(out, record)
        left = _run(task, recipe, space, out, record, study)
        if left or interrupted_trials(study, record.identity):
            raise KeyboardInterrupt  # Tune has swallowed it.
        rows = list_trials(study, space)
        best = best_row(rows)
        if best is None:
            reasons = [row["reason"] for row in rows if row["reason"]]
            raise IrmasError(
                f"no trial of {out} came to a result; the last one: {(reasons or ['stopped'])[-1]}"
            )
        found = build_recipe(recipe.model_dump(), best["params"], "the best trial")
        with storage.write_atomically(out / "best.yaml") as stream:
            content = json.loads(found.model_dump_json())
            stream.write(dump_yaml(content).encode())
        storage.write_json(out / "trials.json", rows)
        model = _write_model(task, found, best, out, record)
        own = {trial.number for trial in own_trials(study, record.identity)}
        if model is None and best["number"] not in own:
            say(f"the best trial, {best['number']}, is another driver's, which has its model")
        shares = importances(study)
    return SweepSummary(str(out), rows, shares, found, model, time.monotonic() - began)


def _study(record: SweepRecord, space: Space, recipe: Recipe, out: Path) -> optuna.Study:
    """Open or make the study, with what is to be tried first."""
    settings = record.settings
    aims = directions(settings.against)
    # Before there is another study in what may be the same storage.
    earlier = open_study(settings.warm_start) if settings.warm_start else None
    study = optuna.create_study(
        storage=open_storage(settings.study or str(out / "study.db")),
        study_name=record.name,
        directions=aims,
        load_if_exists=True,
    )
    if study.directions != aims:
        raise IrmasError(f"the study {record.name} has other objectives; name another directory")
    shared = join_study(study, record.identity, record.digests())
    fail_unmarked_trials(study)
    # A sampler that begins again, or beside another, must not begin with the same draws.
    seed = recipe.seed + sum(len(one.get_trials(deepcopy=False)) for one in (study, earlier) if one)
    seed += int(record.identity, 16) if shared else 0
    study.sampler = build_sampler(settings.sampler, space, seed % 2**32, len(aims))
    if earlier:
        count = enqueue(study, best_points(earlier, space))
        say(f"first come {count} points of the study at {settings.warm_start}")
    if settings.sampler == "grid":
        enqueue(study, space.grid())
    return study


def _run(
    task: TrainingData,
    recipe: Recipe,
    space: Space,
    out: Path,
    record: SweepRecord,
    study: optuna.Study,
) -> int:
    """Run trials until there are as many as asked for; return how many were not begun."""
    settings = record.settings
    own = own_trials(study, record.identity)
    interrupted = interrupted_trials(study, record.identity)
    wanted = settings.trials
    if settings.sampler == "grid":
        waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        wanted = min(wanted, len(own) + len(waiting))
    budget = max(wanted - len(own), 0)
    if not budget and not interrupted:
        return 0
    second = SECOND[settings.against] if settings.against else None
    epochs = most_epochs(space, recipe.training.epochs)
    searcher = StudySearcher(study, space, record.identity, budget, interrupted, second)
    scheduler = build_scheduler(
        settings.scheduler,
        space,
        epochs,
        settings.grace_epochs,
        settings.reduction,
    )
    replay(scheduler, study, [trial.number for trial in interrupted])
    root = storage.absolute(settings.storage or out)
    progress = storage.join(root, "trials")
    earlier = list_trials(study, space)
    mine = {trial.number for trial in own}
    seen = [row for row in earlier if row["number"] in mine]
    view = LiveTable(max(wanted, len(own)), epochs, seen)
    runs = SweepRuns(recipe, record.name, record.identity)
    follower = SweepCallback(searcher, runs, view, progress)
    if completed := [row for row in seen if row["state"] == "completed"]:
        follower.remember_best(completed[0]["value"], completed[0]["number"])
    concurrent = settings.concurrent or trial_capacity(settings)
    tuner = tune.Tuner(
        _trainable(task, recipe, progress, settings),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,  # The searcher says when it is enough.
            # With a searcher and without this, Tune runs one trial at a time. A scheduler that
            # pauses trials needs all of them; they wait for resources then.
            max_concurrent_trials=budget + len(interrupted)
            if settings.scheduler in PAUSING
            else concurrent,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=time.strftime("tune-%Y%m%d-%H%M%S"),
            storage_path=root,
            verbose=0,
            callbacks=[follower, JsonLoggerCallback()],
            # Trials keep their progress themselves.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    try:
        with _environment(QUIET_TUNE), watching(view.render) as live:
            view.lines = not live
            tuner.fit()
    finally:
        runs.close()
    return searcher.left


def _trainable(task: TrainingData, recipe: Recipe, progress: str, settings: SweepSettings) -> Any:
    """Return what Tune is to run: an actor that is reused, or a driver of several workers."""
    if settings.workers == 1:
        alone = tune.with_parameters(
            LearnerTrial,
            task=task,
            recipe=recipe.model_dump(),
            progress=progress,
            latency=settings.against == "latency",
        )
        return tune.with_resources(alone, {"CPU": settings.cpus, "GPU": settings.gpus})
    workers = WorkerSettings(
        count=settings.workers, cpus=settings.cpus, gpu=settings.gpus > 0, retries=0
    )
    together = tune.with_parameters(
        distributed_trial, task=task, recipe=recipe.model_dump(), progress=progress, workers=workers
    )
    # The workers reserve what they need themselves; Tune refuses to reserve nothing at all.
    return tune.with_resources(together, {"CPU": 0, "memory": DRIVER_BYTES})


def _trial_name(trial: Trial) -> str:
    return f"{trial.config[TRIAL]['number']:04d}"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Have environment variables inside the block; those that are set already stay."""
    mine = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ |= mine
    try:
        yield
    finally:
        for name in mine:
            del os.environ[name]


def _write_model(
    task: TrainingData, recipe: Recipe, best: Mapping[str, Any], out: Path, record: SweepRecord
) -> str | None:
    """Write the model directory of the best trial, from the progress that was kept of it."""
    root = storage.absolute(record.settings.storage or out)
    place = progress_directory(storage.join(root, "trials"), best["number"])
    model = str(out / "model")
    if storage.exists(storage.join(place, "model.json")):
        for name in storage.list_files(place):
            with storage.write_atomically(storage.join(model, name)) as stream:
                stream.write(storage.read_bytes(storage.join(place, name)))
        return model
    if not storage.exists(storage.join(place, FILE_NAME)):
        return None
    learner = Learner(task, recipe, device=device())
    resume(learner, place)
    description, validation = describe(learner, recipe.model_dump(mode="json"))
    save_model(model, pack_weights(learner.network), description, validation)
    return model
