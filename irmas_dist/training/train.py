"""Trains a recipe on a feature store: the stage."""

import secrets
from collections.abc import Mapping
from typing import Any

from irmas_dist import storage, tracking
from irmas_dist.cluster.resources import gpu_count
from irmas_dist.cluster.runtime import ray_running, require_shared
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.storage.locks import lock_directory
from irmas_dist.terminal import progress
from irmas_dist.training.data import open_training_data, read_matching_info
from irmas_dist.training.distributed import train_distributed
from irmas_dist.training.model_directory import ModelDescription, read_description

BEGUN = "begun.json"
"""Record of an unfinished training in its model directory: recipe, data, and W&B run."""


def train(
    recipe: Recipe,
    features: str,
    out: str,
    workers: WorkerSettings,
    address: str | None = None,
) -> ModelDescription:
    """Train a recipe and write its model directory, or resume an interrupted training there.

    Args:
        recipe: What to train.
        features: The feature store to train on, a path or URL.
        out: The model directory, a path or URL.
        workers: Number of workers and their resources.
        address: The Ray to train with, as `ray_running` takes it.

    Raises:
        IrmasError: ``out`` holds a model of another recipe or of other features, finished or
            not, or is in use; the features were made with other settings; or training failed.
    """
    settings = recipe.model_dump(mode="json")
    store = read_matching_info(features, recipe).identity
    if finished := _finished(out, settings, store):
        return finished
    with lock_directory(out):
        # Again, as it may have been locked until now.
        if finished := _finished(out, settings, store):
            return finished
        about = _about(out, settings, store)
        with ray_running(address):
            require_shared(out)
            if workers.gpu is None:
                enough = gpu_count() >= workers.needed
                workers = workers.model_copy(update={"gpu": enough})
            return _train(recipe, features, out, workers, about)


def _finished(out: str, settings: dict[str, Any], store: str) -> ModelDescription | None:
    """Return the finished model in ``out``, if any; refuse one of another recipe or store."""
    if not storage.exists(storage.join(out, "model.json")):
        return None
    finished = read_description(out)
    _require_same(f"{out} holds a model", finished.recipe, finished.data, settings, store)
    return finished


def _about(out: str, settings: dict[str, Any], store: str) -> dict[str, Any]:
    """Return the record of the training in ``out``, a new one or that of an interrupted run."""
    begun = storage.join(out, BEGUN)
    about: dict[str, Any] = {
        "recipe": settings, "data": {"store": store}, "run_id": secrets.token_hex(4),
    }  # fmt: skip
    if storage.exists(begun):
        about = storage.read_json(begun)
        holds = f"{out} holds an unfinished training"
        _require_same(holds, about["recipe"], about["data"], settings, store)
    return about


def _train(
    recipe: Recipe,
    features: str,
    out: str,
    workers: WorkerSettings,
    about: dict[str, Any],
) -> ModelDescription:
    """Train until the model is finished, and log it to W&B."""
    settings = about["recipe"]
    data = open_training_data(features, recipe)
    begun = storage.join(out, BEGUN)
    storage.write_json(begun, about)
    name = out.rstrip("/").rsplit("/", 1)[-1]
    run = tracking.start_run(
        recipe.tracking, name=name, job_type="train", config=settings, run_id=about["run_id"]
    )
    failed = True
    done = 0
    try:
        with progress("train", recipe.training.epochs, "epochs") as advance:

            def on_epoch(metrics: Mapping[str, float]) -> None:
                # The first epoch of a resumed run is not 1, and a lost worker repeats some.
                nonlocal done
                if (epoch := int(metrics["epoch"])) > done:
                    run.log(metrics)
                    advance(epoch - done)
                    done = epoch

            description = train_distributed(data, recipe, settings, out, workers, on_epoch)
        best = {f"best_{key}": value for key, value in description.scores.items()}
        run.summarise({**best, "parameters": description.parameters})
        storage.remove(begun)
        failed = False
    finally:
        run.close(failed=failed)
    return description


def _require_same(
    holds: str, recipe: dict[str, Any], data: dict[str, Any], settings: dict[str, Any], store: str
) -> None:
    """Refuse what was made with another recipe, or from other clips, labels or groups."""
    advice = "delete it, or choose another directory"
    if recipe != settings:
        raise IrmasError(f"{holds} of another recipe; {advice}")
    if data["store"] != store:
        raise IrmasError(f"{holds} of other features ({data['store']}, not {store}); {advice}")
