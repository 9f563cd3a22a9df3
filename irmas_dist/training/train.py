"""Trains a recipe on a feature store: the stage.

torch and Ray are imported inside functions: what is refused need not wait for them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from irmas_dist import storage
from irmas_dist.cluster.without_ray import (
    LOCAL,
    gpu_for_each,
    ray_address,
    ray_initialised,
    require_machine,
)
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.training import (
    NOTHING_TO_KEEP,
    FurtherStore,
    WorkerSettings,
    require_capturable,
    require_examples,
)
from irmas_dist.errors import IrmasError, StoreError
from irmas_dist.features.store import StoreInfo
from irmas_dist.models.map_sizes import map_sizes
from irmas_dist.storage.locks import lock_directory
from irmas_dist.storage.results import (
    BEGUN_FILE,
    MODEL_FILE,
    directory_name,
    progress_directory,
    refuse_other_results,
)
from irmas_dist.terminal import progress, say
from irmas_dist.tracking.outcome import show_address
from irmas_dist.tracking.run import Run
from irmas_dist.tracking.start import start_run
from irmas_dist.training.begun import finished_model, has_seeds, record_of_training
from irmas_dist.training.data import TrainingData
from irmas_dist.training.load import is_resident, open_training_data, read_matching_infos
from irmas_dist.training.records import TrainingInputs

if TYPE_CHECKING:
    from irmas_dist.training.initial_model import InitialModel
    from irmas_dist.training.model_description import ModelDescription

Trainer = Callable[..., "ModelDescription"]
"""`train_here` or `irmas_dist.training.distributed.train_distributed`."""


def train(
    recipe: Recipe,
    features: str,
    out: str,
    workers: WorkerSettings,
    address: str | None = None,
    further: Sequence[FurtherStore] = (),
    init: str | None = None,
    name: str | None = None,
) -> "ModelDescription":
    """Train a recipe and write its model directory, or resume an interrupted training there.

    A single worker is this process, without any Ray, if no cluster is named, Ray is not
    initialised and features are held in memory; it is Ray Data that streams them.

    Args:
        recipe: What to train.
        features: The feature store to train on, a path or URL.
        out: The model directory, a path or URL.
        workers: Number of workers and their resources.
        address: The Ray to train with, as `ray_running` takes it.
        further: Stores whose clips are learnt beside those of ``features``.
        init: Model directory to start from; None starts from random weights.
        name: Of the run and the model in W&B; None takes that of ``out``.

    Raises:
        IrmasError: ``out`` holds a model of another recipe or of other features, finished or
            not, or is in use; the features were made with other settings; the network leaves
            nothing of a window; there are more workers than examples in a step; or training failed.
    """
    refuse_other_results(out, MODEL_FILE)
    settings = recipe.model_dump(mode="json")
    infos, start, line, inputs = _read_inputs(recipe, features, further, init)
    unlogged = storage.exists(storage.join(out, BEGUN_FILE))
    if not unlogged and (finished := finished_model(out, settings, inputs)):
        return finished
    map_sizes(recipe.model, recipe.features.bands, recipe.window.frames(recipe.features))
    require_examples(workers.count, recipe.training.batch_size)
    require_capturable(recipe.training, workers.count)
    with lock_directory(out):
        # Again, as it may have been locked until now.
        finished = finished_model(out, settings, inputs)
        name = name or directory_name(out)
        if finished and not storage.exists(storage.join(out, BEGUN_FILE)):
            return finished
        if not finished and has_seeds(out):
            raise IrmasError(
                f"{out} holds an unfinished training of several seeds: resume it with --seeds, or "
                "choose another directory"
            )
        about = record_of_training(out, settings, inputs)
        if finished:  # A kill has cost W&B the end of its run.
            return _completed(finished, recipe, out, about, name)
        if ray_address(address) == LOCAL and not ray_initialised():
            require_machine(workers)
        here = _is_worker(recipe, infos, workers, address)
        opening = partial(_open, features, recipe, workers, further, start)
        if line:
            say(line)
        start_up = _here(opening, workers) if here else _with_ray(opening, address, out)
        with start_up as (trainer, opened):
            if workers.gpu is None:
                workers = workers.model_copy(update={"gpu": gpu_for_each(workers.needed)})
            resumed = storage.exists(storage.join(out, BEGUN_FILE))
            storage.write_json(storage.join(out, BEGUN_FILE), about)
            return _tracked(trainer, opened, recipe, out, workers, about, resumed, name)


def require_same_training(
    recipe: Recipe, features: str, out: str, further: Sequence[FurtherStore], init: str | None
) -> None:
    """Refuse a directory in which `train` would refuse these arguments, which are its own.

    Raises:
        IrmasError: It holds a model of another recipe or of other features, finished or not.
    """
    refuse_other_results(out, MODEL_FILE)
    settings = recipe.model_dump(mode="json")
    *_, inputs = _read_inputs(recipe, features, further, init)
    if finished_model(out, settings, inputs) is None:
        record_of_training(out, settings, inputs)


def _read_inputs(
    recipe: Recipe, features: str, further: Sequence[FurtherStore], init: str | None
) -> "tuple[list[StoreInfo], InitialModel | None, str, TrainingInputs]":
    """Return the stores, what `read_start` does, and the record of all of these."""
    infos = read_matching_infos(features, recipe, further)
    also = tuple(
        (one.identity, store.weight) for one, store in zip(infos[1:], further, strict=True)
    )
    start, line = read_start(init, recipe)
    weights = start.digest if start else None
    inputs = TrainingInputs(store=infos[0].identity, also=also, init=weights)
    return infos, start, line, inputs


def read_start(init: str | None, recipe: Recipe) -> "tuple[InitialModel | None, str]":
    """Read the model to start from, if any, and return it with a line on what is taken from it.

    Raises:
        IrmasError: It cannot be used with this recipe, or the recipe needs one.
    """
    if init is None:
        if recipe.training.freeze.epochs:
            raise IrmasError(NOTHING_TO_KEEP)
        return None, ""
    from irmas_dist.training.model_directory import read_initial_model

    start = read_initial_model(init)
    return start, start.describe_start(recipe, recipe.features, recipe.corpus.vocabulary)


def _is_worker(
    recipe: Recipe, infos: Sequence[StoreInfo], workers: WorkerSettings, address: str | None
) -> bool:
    """Return whether this process is the only worker."""
    needs_ray = workers.count > 1 or ray_initialised() or ray_address(address) != LOCAL
    return not needs_ray and is_resident(recipe.ingest, *infos)


def _open(
    features: str,
    recipe: Recipe,
    workers: WorkerSettings,
    further: Sequence[FurtherStore],
    start: "InitialModel | None",
) -> TrainingData:
    """Load the training data, on a worker's number of threads."""
    from irmas_dist.training.local import computing_on

    with computing_on(workers.cpus):
        return open_training_data(features, recipe, further, start)


@contextmanager
def _here(
    opening: Callable[[], TrainingData], workers: WorkerSettings
) -> Iterator[tuple[Trainer, TrainingData]]:
    """Yield the function that trains in this process, and the data."""
    from irmas_dist.training.local import train_here

    yield train_here, opening()


@contextmanager
def _with_ray(
    opening: Callable[[], TrainingData], address: str | None, out: str
) -> Iterator[tuple[Trainer, TrainingData]]:
    """Run the block with Ray, and yield the function that trains on its workers, and the data."""
    from irmas_dist.cluster.runtime import ray_running, require_shared

    with ThreadPoolExecutor(1) as pool:
        # Ray takes seconds to start, in other processes. Of a cluster, the nodes' memory decides.
        early = pool.submit(opening) if ray_address(address) == LOCAL else None
        with ray_running(address):
            from irmas_dist.training.distributed import train_distributed
            from irmas_dist.training.loop import WorkerLostError

            require_shared(out)
            opened = early.result() if early else opening()
            try:
                yield train_distributed, opened
            except WorkerLostError as error:
                raise IrmasError(
                    f"{error}; the same command resumes from the last checkpoint"
                ) from error


def _tracked(
    trainer: Trainer,
    data: TrainingData,
    recipe: Recipe,
    out: str,
    workers: WorkerSettings,
    about: dict[str, Any],
    resumed: bool,
    name: str,
) -> "ModelDescription":
    """Train until the model is finished, show the progress, and log to W&B."""
    from irmas_dist.training.loop import latest_history

    settings = recipe.model_dump(mode="json")
    # An epoch is logged after its checkpoint is saved: without one, there is no run yet.
    history = latest_history(out) if resumed else []
    run = _open_run(recipe, about, name, resumed=bool(history))
    run.uses_features(data.record.fingerprints())
    failed = True
    done = 0
    try:
        with progress("train", recipe.training.epochs, "epochs") as advance:

            def on_epoch(metrics: Mapping[str, float], earlier: bool = False) -> None:
                # A lost worker repeats some epochs.
                nonlocal done
                if (epoch := int(metrics["epoch"])) > done:
                    run.log(metrics)
                    advance(epoch - done, earlier=earlier)
                    done = epoch

            for metrics in history:  # A kill may have cost W&B some of them.
                on_epoch(metrics, earlier=True)
            description = trainer(data, recipe, settings, out, workers, on_epoch)
        description = _concluded(run, description, out, about, name)
        failed = False
    except StoreError as error:  # A full disk, say.
        raise StoreError(f"{error}; the same command resumes") from error
    finally:
        run.close(failed=failed)
    return description


def _completed(
    finished: "ModelDescription", recipe: Recipe, out: str, about: dict[str, Any], name: str
) -> "ModelDescription":
    """Log to W&B what a kill after the last epoch has cost it."""
    storage.remove_directory(progress_directory(out))
    run = _open_run(recipe, about, name, resumed=True)
    failed = True
    try:
        for metrics in finished.history:
            run.log(metrics)
        finished = _concluded(run, finished, out, about, name)
        failed = False
    finally:
        run.close(failed=failed)
    return finished


def _open_run(recipe: Recipe, about: dict[str, Any], name: str, *, resumed: bool) -> Run:
    """Open the W&B run of a training, or resume it."""
    tracking = recipe.tracking.model_copy(update={"directory": about["runs"]})
    run = start_run(
        tracking,
        name=name,
        job_type="train",
        group=tracking.group,
        config=recipe.model_dump(mode="json"),
        run_id=about["run_id"],
        resumed=resumed,
    )
    if run.mode == "online":
        show_address(tracking, "runs", about["run_id"])
    return run


def _concluded(
    run: Run, description: "ModelDescription", out: str, about: dict[str, Any], name: str
) -> "ModelDescription":
    """Log a finished model, and let it name its run; the training is over then."""
    from irmas_dist.training.model_description import write_description

    if run.mode != "disabled":
        description = description.model_copy(update={"run": about["run_id"]})
        write_description(out, description)
    best = {f"best_{key}": value for key, value in description.scores.items()}
    run.summarise({**best, "parameters": description.parameters})
    run.made_model(name, out, {**description.scores, **description.data.facts()})
    storage.remove(storage.join(out, BEGUN_FILE))
    return description
