"""A sweep: Optuna proposes trials, Tune runs them, a scheduler stops the poor ones early."""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState

from irmas_dist import storage
from irmas_dist.cluster.mps import multi_process_service
from irmas_dist.cluster.runtime import ray_running, require_shared
from irmas_dist.cluster.without_ray import LOCAL, ray_address, ray_initialised
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.config.yaml_files import dump_yaml
from irmas_dist.errors import IrmasError
from irmas_dist.search.best_model import write_best_model
from irmas_dist.search.checks import check_cluster, check_resumed, check_settings
from irmas_dist.search.run_trials import run_trials
from irmas_dist.search.samplers import best_points, build_sampler, enqueue
from irmas_dist.search.space import Space
from irmas_dist.search.storages import open_storage, open_study, public_location
from irmas_dist.search.study import (
    TrialRow,
    best_row,
    check_study,
    directions,
    importances,
    interrupted_trials,
    join_study,
    list_trials,
    own_trials,
    settle_unmarked_trials,
)
from irmas_dist.search.sweep_directory import (
    SWEEP_FILE,
    SweepRecord,
    make_record,
    read_record,
    study_location,
    trials_root,
    write_record,
)
from irmas_dist.search.trial import SECOND_TITLES
from irmas_dist.search.wandb_runs import SweepRuns
from irmas_dist.storage.locks import lock_directory
from irmas_dist.storage.results import BEST_FILE, refuse_other_results
from irmas_dist.terminal import say
from irmas_dist.training.data import TrainingData


@dataclass(frozen=True)
class SweepSummary:
    """The result of a sweep.

    Attributes:
        path: Sweep directory with ``best.yaml``, ``trials.json``, ``model`` and the study.
        trials: Best first, as from `list_trials`.
        importances: Share of each entry in the importance for macro F1.
        best: The recipe of the best trial.
        model: Model directory of the best trial; None when only stopped trials have a value.
        against: Name of the second objective with its unit; None without one.
        seconds: Wall time.
    """

    path: str
    trials: list[TrialRow]
    importances: dict[str, float]
    best: Recipe
    model: str | None
    against: str | None
    seconds: float


def sweep(
    data: TrainingData,
    recipe: Recipe,
    space: Space,
    out: Path,
    settings: SweepSettings,
    resume: bool = False,
    address: str | None = None,
) -> SweepSummary:
    """Search a space for the recipe with the best macro F1 on the validation clips.

    Args:
        data: The training data; put into the object store once.
        recipe: The recipe that the space varies.
        space: The search space.
        out: Sweep directory.
        settings: Number of trials, their resources, sampler and scheduler.
        resume: Resume the sweep in ``out``: interrupted trials continue from their last
            checkpoint, and new ones follow up to the number of trials.
        address: The Ray to run trials with, as `ray_running` takes it.

    Raises:
        IrmasError: The directory is in use, holds a sweep already, or none to resume; the study
            cannot be opened; the settings contradict each other; no trial has a result.
        KeyboardInterrupt: The sweep was interrupted; the study keeps its ended trials.
    """
    began = time.monotonic()
    refuse_other_results(str(out), SWEEP_FILE)
    with lock_directory(out):
        record = make_record(out, recipe, space, settings, data.record, resume)
        check_settings(settings, space, recipe)
        root = trials_root(out, record)
        if not resume and storage.exists(root):
            raise IrmasError(f"{root} has trials of an earlier sweep: delete it, or name another")
        check_study(
            study_location(out, record), record.name, directions(settings.against),
            record.digests(), resume,
        )  # fmt: skip
        one_machine = ray_address(address) == LOCAL
        own_ray = one_machine and not ray_initialised()
        with (
            multi_process_service(wanted=own_ray and settings.gpus != 0),
            ray_running(address, dashboard=settings.workers > 1),
        ):
            require_shared(settings.storage or str(out))  # Trials write only there.
            check_cluster(settings)
            study = _open_study(record, space, recipe, out, settings.warm_start)
            if resume:
                check_resumed(study, record.identity, read_record(out).settings, record.settings)
            write_record(out, record)
            with closing(SweepRuns(record, out)) as wandb_runs:
                left = run_trials(data, recipe, space, out, record, study, wandb_runs, one_machine)
        if left or interrupted_trials(study, record.identity):
            raise KeyboardInterrupt  # Tune has caught it.
        rows = list_trials(study, space)
        best = best_row(rows)
        if best is None:
            reasons = [row["reason"] for row in rows if row["reason"]]
            raise IrmasError(
                f"no trial of {out} has a result; the last one: {(reasons or ['stopped'])[-1]}"
            )
        # What is trained with it belongs to the sweep.
        values = {**best["params"], "tracking.group": record.group}
        best_recipe = build_recipe(recipe.model_dump(), values, "the best trial")
        with storage.write_atomically(out / BEST_FILE) as stream:
            stream.write(dump_yaml(best_recipe.model_dump(mode="json")).encode())
        storage.write_json(out / "trials.json", rows)
        model = write_best_model(data, best_recipe, best, out, record)
        own = {trial.number for trial in own_trials(study, record.identity)}
        if model is None and best["number"] not in own:
            earlier = f"; {out}/model is of an earlier one" if (out / "model").exists() else ""
            say(f"the best trial, {best['number']}, and its model belong to another sweep{earlier}")
        shares = importances(study)
    against = SECOND_TITLES.get(record.settings.against or "")
    seconds = time.monotonic() - began
    return SweepSummary(str(out), rows, shares, best_recipe, model, against, seconds)


def _open_study(
    record: SweepRecord, space: Space, recipe: Recipe, out: Path, warm_start: str | None
) -> optuna.Study:
    """Open or create the study, and queue the points that run first."""
    settings = record.settings
    objectives = directions(settings.against)
    # Before a second study may be created in the same storage.
    earlier = open_study(warm_start) if warm_start else None
    study = optuna.create_study(
        storage=open_storage(study_location(out, record), create=True),
        study_name=record.name,
        directions=objectives,
        load_if_exists=True,
    )
    shared = join_study(study, record.identity, record.digests())
    settle_unmarked_trials(study, record.identity, shared)
    # A sampler of a resumed sweep, or beside another one, must not start with the same draws.
    seed = recipe.seed + sum(len(one.get_trials(deepcopy=False)) for one in (study, earlier) if one)
    seed += int(record.identity, 16) if shared else 0
    study.sampler = build_sampler(
        settings.sampler, space, seed % 2**32, len(objectives), settings.trials
    )
    if earlier and warm_start:
        count = enqueue(study, best_points(earlier, space))
        say(f"{count} points of the study at {public_location(warm_start)} run first")
    if settings.sampler == "grid":
        # Those that wait in a shared study may be another sweep's.
        started = own_trials(study, record.identity)
        waiting = () if shared else study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        enqueue(study, space.grid(), max(settings.trials - len(started) - len(waiting), 0))
    return study
