"""Checks whether a sweep can run, before it writes anything: without Ray, and with it."""

from irmas_dist.cluster.resources import require_state_api, trial_capacity
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.sweep import PAUSING, SweepSettings
from irmas_dist.config.training import require_examples
from irmas_dist.errors import IrmasError, UsageError
from irmas_dist.search.samplers import best_points, build_sampler
from irmas_dist.search.schedulers import build_scheduler
from irmas_dist.search.space import Space
from irmas_dist.search.storages import file_of, open_study
from irmas_dist.search.study import directions
from irmas_dist.storage import exists, is_url
from irmas_dist.storage.locks import lock_directory


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
    sizes = batches.samples() if batches else [recipe.training.batch_size]
    require_examples(settings.workers, min(sizes))
    if settings.sampler == "grid":
        space.grid()
    _require_places(settings)
    if settings.warm_start:
        best_points(open_study(settings.warm_start), space)
    build_scheduler(settings, space, recipe.training.epochs)
    build_sampler(settings.sampler, space, recipe.seed, len(directions(settings.against)))


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
