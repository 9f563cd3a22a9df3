"""The command that trains a model."""

from typing import TYPE_CHECKING, Annotated

import typer

from irmas_dist.cli.command import (
    MAX_COUNT,
    Address,
    Also,
    Config,
    DryRun,
    Init,
    Json,
    Overrides,
    command,
    read_recipe,
)
from irmas_dist.cli.ensemble import show_ensemble
from irmas_dist.cli.tables import as_json, show_recipe
from irmas_dist.config.base import from_options
from irmas_dist.config.training import FurtherStore, WorkerSettings
from irmas_dist.terminal import show

if TYPE_CHECKING:
    from irmas_dist.training.model_description import ModelDescription

DEFAULTS = WorkerSettings()


@command
def train(
    features: Annotated[str, typer.Argument(help="Feature store, a path or URL.")],
    out: Annotated[str, typer.Argument(help="The model directory to write, a path or URL.")],
    also: Also = None,
    init: Init = None,
    config: Config = None,
    overrides: Overrides = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            max=100,
            help="Number of models to train, with consecutive seeds from the recipe's on; two or "
            "more are joined into an ensemble.",
        ),
    ] = 1,
    workers: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Data-parallel workers.")
    ] = DEFAULTS.count,
    min_workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_COUNT,
            help="Start and continue with as few workers as this, and add workers as nodes join; "
            "default: wait for all.",
        ),
    ] = None,
    cpus: Annotated[float, typer.Option(help="CPUs of each worker.")] = DEFAULTS.cpus,
    gpu: Annotated[
        bool | None,
        typer.Option("--gpu/--no-gpu", help="One GPU per worker, or none; default: if enough."),
    ] = DEFAULTS.gpu,
    retries: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_COUNT,
            help="How often to resume after a worker or node of a cluster is lost.",
        ),
    ] = DEFAULTS.retries,
    wait: Annotated[
        float,
        typer.Option(min=0, max=1e9, help="Seconds to wait for free resources in the cluster."),
    ] = DEFAULTS.wait_timeout_s or 0.0,
    address: Address = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train a model, on several workers with Ray Train; the same command resumes a run."""
    if min_workers and min_workers > workers:
        raise typer.BadParameter(f"--min-workers {min_workers} is more than --workers {workers}")
    settings = from_options(
        WorkerSettings,
        {"count": "--workers", "wait_timeout_s": "--wait"},
        count=workers,
        min_workers=min_workers,
        cpus=cpus,
        gpu=gpu,
        retries=retries,
        wait_timeout_s=wait,
    )
    further = [FurtherStore.parse(each) for each in also or ()]
    recipe = read_recipe(config, overrides)
    if dry_run:
        return show_recipe(recipe, json)
    from irmas_dist.tracking.outcome import awaiting_uploads

    try:
        with awaiting_uploads(recipe.tracking.wait_s):
            if seeds > 1:
                from irmas_dist.training.ensemble import train_seeds

                ensemble = train_seeds(
                    recipe, seeds, features, out, settings, address, further, init
                )
                show_ensemble(ensemble, out, json)
            else:
                from irmas_dist.training.train import train

                description = train(recipe, features, out, settings, address, further, init)
                show_training(description, out, json)
    except (KeyboardInterrupt, SystemExit) as error:
        raise KeyboardInterrupt("the same command resumes") from error


def show_training(description: "ModelDescription", path: str, json_output: bool) -> None:
    """Show the result of a training."""
    result = {
        "path": path,
        "parameters": description.parameters,
        "epochs": len(description.history),
        "best_epoch": description.best_epoch,
        "validation": description.scores,
    }
    if json_output:
        as_json(result)
        return
    scores = description.scores
    show(
        f"best epoch {description.best_epoch} of {len(description.history)}: validation "
        f"micro F1 {scores['val_micro_f1']:.3f}, macro F1 {scores['val_macro_f1']:.3f}; "
        f"{description.parameters:,} parameters in {path}"
    )
