"""Trains a recipe on a feature store: the stage."""

import secrets
from collections.abc import Mapping
from typing import Any

from irmas_dist import storage, tracking
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.features.store import read_info
from irmas_dist.terminal import progress
from irmas_dist.training.data import open_training_data
from irmas_dist.training.distributed import train_distributed
from irmas_dist.training.model_directory import ModelDescription, read_description


def train(recipe: Recipe, features: str, out: str, workers: WorkerSettings) -> ModelDescription:
    """Train a recipe and write its model directory, or resume an interrupted training there.

    Raises:
        IrmasError: ``out`` holds a model of another recipe or of other features, finished or
            not; the features were made with other settings; or training failed.
    """
    settings = recipe.model_dump(mode="json")
    store = read_info(features).identity
    if storage.exists(storage.join(out, "model.json")):
        finished = read_description(out)
        _require_same(f"{out} holds a model", finished.recipe, finished.data, settings, store)
        return finished
    begun = storage.join(out, "begun.json")
    about: dict[str, Any] = {
        "recipe": settings, "data": {"store": store}, "run_id": secrets.token_hex(4),
    }  # fmt: skip
    if storage.exists(begun):
        about = storage.read_json(begun)
        holds = f"{out} holds an unfinished training"
        _require_same(holds, about["recipe"], about["data"], settings, store)
    data = open_training_data(features, recipe)
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
