"""Checks whether a sweep can run, before it writes anything: without Ray, and with it."""

import optuna

from irmas_dist.cluster.resources import require_state_api, trial_capacity
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.sweep import PAUSING, SweepSettings
from irmas_dist.config.training import graph_needs, require_capturable, require_examples
from irmas_dist.errors import IrmasError, UsageError, listed
from irmas_dist.models.map_sizes import map_sizes
from irmas_dist.search.samplers import best_points, build_sampler
from irmas_dist.search.schedulers import build_scheduler
from irmas_dist.search.space import Space
from irmas_dist.search.storages import file_of, open_study
from irmas_dist.search.study import directions, interrupted_trials, own_trials
from irmas_dist.storage import exists, is_url
from irmas_dist.storage.locks import lock_directory

DRAWN = 50
"""Trials that are drawn at random to see whether any can be trained."""


def check_settings(settings: SweepSettings, space: Space, recipe: Recipe) -> None:
    """Check that the settings fit each other and the space.

    Raises:
        IrmasError: They do not; the message names the options.
    """
    if settings.against and settings.scheduler != "none":
        raise UsageError(f"--scheduler {settings.scheduler} compares by one objective; use none")
    if settings.scheduler in PAUSING and settings.sampler in ("cmaes", "nsga2"):
        raise UsageError(
            f"--sampler {settings.sampler} learns from results, and --scheduler "
            f"{settings.scheduler} draws all trials before there is one; use --sampler random"
        )
    grace = SweepSettings.model_fields["grace_epochs"].default
    if settings.scheduler == "hyperband" and settings.grace_epochs != grace:
        raise UsageError(
            "--scheduler hyperband compares the trials of one of its brackets after an epoch: "
            f"leave out --grace-epochs {settings.grace_epochs}, or use --scheduler asha"
        )
    if settings.scheduler in PAUSING and settings.concurrent:
        raise UsageError(
            f"--scheduler {settings.scheduler} decides how many trials run: leave out --concurrent "
            f"{settings.concurrent}; a sweep that began with it needs another scheduler"
        )
    if settings.workers > 1 and settings.gpus not in (None, 0.0, 1.0):
        raise UsageError(
            f"--gpus {settings.gpus:g}: with --workers above 1, a worker has one GPU or none"
        )
    if settings.workers > 1 and settings.scheduler in PAUSING:
        raise UsageError(f"--scheduler {settings.scheduler} needs trials of one worker")
    if settings.workers > 1 and settings.against == "latency":
        raise UsageError("--against latency needs trials of one worker")
    batches = space.entries.get("training.batch_size")
    sizes = list(batches.samples()) if batches else []
    if batches is None or batches.when:  # Where its condition does not hold, it is the recipe's.
        sizes.append(recipe.training.batch_size)
    require_examples(settings.workers, min(sizes))
    require_capturable(recipe.training, settings.workers)
    if recipe.training.graph == "on" and settings.gpus == 0:
        raise UsageError(graph_needs(["a GPU for each trial"]))
    if settings.sampler == "grid":
        space.grid()
    _require_a_network(space, recipe)
    _require_places(settings)
    if settings.warm_start:
        best_points(open_study(settings.warm_start), space)
    build_scheduler(settings, space, recipe.training.epochs)
    objectives = len(directions(settings.against))
    build_sampler(settings.sampler, space, recipe.seed, objectives, settings.trials)


def _require_a_network(space: Space, recipe: Recipe) -> None:
    """Refuse a space of which no trial can be trained, by trials that are drawn at random."""
    reasons = []
    for number in range(DRAWN):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
        try:
            drawn = build_recipe(recipe.model_dump(), space(study.ask()), "the space")
            map_sizes(drawn.model, drawn.features.bands, drawn.window.frames(drawn.features))
        except IrmasError as error:
            reasons.append(str(error))
        else:
            return
    raise IrmasError(f"of {DRAWN} trials drawn at random none can be trained: {reasons[0]}")


def _require_places(settings: SweepSettings) -> None:
    """Refuse a study and a storage that cannot be where they are to be."""
    if settings.study and (file := file_of(settings.study)):
        try:
            file.stat()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise IrmasError(f"--study {settings.study}: {error.strerror}") from error
    if settings.storage and is_url(settings.storage):
        exists(settings.storage)
    elif settings.storage:
        with lock_directory(settings.storage):
            pass


def check_cluster(settings: SweepSettings) -> None:
    """Check that the running cluster holds a trial.

    Raises:
        IrmasError: It does not; the message names the options.
    """
    trial_capacity(settings)
    if settings.workers > 1:
        require_state_api()


def check_resumed(
    study: optuna.Study, sweep: str, before: SweepSettings, now: SweepSettings
) -> None:
    """Check that trials of a sweep can be resumed, and its best one found, with the settings.

    Args:
        study: The study.
        sweep: The sweep's identity.
        before: The settings of its last driver.
        now: The settings.

    Raises:
        IrmasError: Checkpoints lie in another storage; or interrupted trials were of one worker,
            and are to be of several, or the other way round.
    """
    if own_trials(study, sweep) and before.storage != now.storage:
        theirs = f"--storage {before.storage}" if before.storage else "no --storage"
        raise IrmasError(f"its trials have their checkpoints by {theirs}: resume them with that")
    numbers = [str(trial.number) for trial in interrupted_trials(study, sweep)]
    if numbers and (before.workers == 1) != (now.workers == 1):
        raise IrmasError(
            f"trials {listed(numbers)} were interrupted on --workers {before.workers}, and "
            f"--workers {now.workers} does not read their checkpoints: resume them as they were"
        )
