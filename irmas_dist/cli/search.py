"""The commands around a search: sweep, thresholds, and review of what was found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from irmas_dist.cli.command import Address, Config, DryRun, Json, Overrides, quiet, read_recipe
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import say

ObjectiveName = Literal[
    "macro_f1",
    "micro_f1",
    "macro_f2",
    "micro_f2",
    "macro_f05",
    "micro_f05",
    "subset_accuracy",
    "cost",
]

if TYPE_CHECKING:
    from irmas_dist.config.recipe import Recipe
    from irmas_dist.search.space import Space
    from irmas_dist.search.sweep_directory import SweepSettings

SPACE = Path("configs/spaces/quick.yaml")


@quiet
def sweep(
    features: Annotated[str, typer.Argument(help="Feature store, a path or URL.")],
    out: Annotated[Path, typer.Argument(help="Directory of the sweep; its name names the study.")],
    space: Annotated[
        Path | None, typer.Option(help=f"What to search, a YAML file; none: {SPACE}.")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the sweep in OUT, as it was begun; options given here replace its "
            "own, but for the recipe and the space.",
        ),
    ] = False,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials; 20.")] = None,
    sampler: Annotated[
        Literal["tpe", "random", "grid", "cmaes", "nsga2"] | None,
        typer.Option(help="Who proposes the trials; tpe."),
    ] = None,
    scheduler: Annotated[
        Literal["asha", "hyperband", "median", "pbt", "none"] | None,
        typer.Option(help="Who stops the poor ones; asha."),
    ] = None,
    against: Annotated[
        Literal["parameters", "latency"] | None,
        typer.Option(help="A second objective, to be small while macro F1 is large."),
    ] = None,
    concurrent: Annotated[
        int | None,
        typer.Option(min=1, help="Trials at a time; none means as many as there is room for."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Data-parallel workers of each trial; 1.")
    ] = None,
    cpus: Annotated[float | None, typer.Option(min=0.001, help="CPUs of each worker; 1.")] = None,
    gpus: Annotated[
        float | None, typer.Option(min=0.0, help="GPUs of each worker, or a fraction of one; 0.")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Optuna storage: path, journal (.log) or database URL.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Where trials keep their progress: a path or URL; OUT.")
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            help="Study whose best trials are tried first: as for --study; one of several there "
            "by STORAGE#NAME."
        ),
    ] = None,
    address: Address = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Search architectures, dropout rates and thresholds with Ray Tune and Optuna."""
    given = {
        "trials": trials, "sampler": sampler, "scheduler": scheduler, "against": against,
        "concurrent": concurrent, "workers": workers, "cpus": cpus, "gpus": gpus,
        "study": study, "storage": storage, "warm_start": warm_start,
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value is not None}
    if resume and (config or overrides or space):
        raise IrmasError("a sweep goes on with its own recipe and space: leave them out")
    recipe, searched, settings = (
        _recorded(out, chosen) if resume else _new(out, config, overrides, space, chosen)
    )
    from irmas_dist.cli import tables

    if dry_run:
        return tables.recipe(recipe, json)
    from irmas_dist.cluster.runtime import ray_running, require_shared
    from irmas_dist.inference import evaluate
    from irmas_dist.search.sweep import sweep as search

    task = evaluate.open_task(features, recipe)
    try:
        with ray_running(address, dashboard=settings.workers > 1):
            require_shared(settings.storage or str(out))  # Trials write only there.
            summary = search(task, recipe, searched, out, settings, resume)
    except KeyboardInterrupt:
        say(f"go on with it: irmas sweep {features} {out} --resume")
        raise
    return tables.swept(summary, json)


def _new(
    out: Path,
    config: Path | None,
    overrides: list[str] | None,
    space: Path | None,
    chosen: dict[str, Any],
) -> "tuple[Recipe, Space, SweepSettings]":
    from irmas_dist.search.space import load_space

    recipe = read_recipe(config, overrides)
    searched = load_space(space or SPACE, recipe)
    from irmas_dist.search.sweep_directory import SweepSettings, require_new

    require_new(out)  # Before Ray takes its time to start.
    return recipe, searched, SweepSettings(**chosen)


def _recorded(out: Path, chosen: dict[str, Any]) -> "tuple[Recipe, Space, SweepSettings]":
    from irmas_dist.search.sweep_directory import SweepSettings, read_record

    record = read_record(out)
    recipe, searched = record.load(str(out))
    # What a warm start gave is in the study; the earlier one need not be there any more.
    kept = record.settings.model_dump(exclude={"warm_start"})
    return recipe, searched, SweepSettings.model_validate(kept | chosen)


@quiet
def review(
    path: Annotated[Path, typer.Argument(help="Directory of a sweep.")],
    sync: Annotated[
        bool, typer.Option("--sync", help="Upload its offline runs to W&B, and show nothing.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the pages, on this machine only.")] = 8080,
    json: Json = False,
) -> None:
    """Look through a sweep in the browser, or upload its runs to W&B."""
    from irmas_dist.cli import tables
    from irmas_dist.search import review as reviewing

    if sync:
        return tables.synced(reviewing.sync(path), json)
    with reviewing.dashboard(path, port) as server:
        say(f"http://127.0.0.1:{server.server_port} shows the sweep in {path}; Ctrl-C ends it")
        server.serve_forever()
    return None


@quiet
def thresholds(
    model: Annotated[str, typer.Argument(help="Model directory, such as SWEEP/model.")],
    features: Annotated[
        str | None,
        typer.Option(
            help="Feature store it was trained on, to choose the aggregation and the window hop "
            "as well; none: the thresholds only."
        ),
    ] = None,
    rule: Annotated[
        Literal["global", "per_instrument"], typer.Option(help="One threshold, or one for each.")
    ] = "per_instrument",
    objective: Annotated[
        ObjectiveName, typer.Option(help="What they make as large as can be.")
    ] = "macro_f1",
    cost_of_missing: Annotated[
        float,
        typer.Option(help="For 'cost': of an instrument that is missed; wrongly said costs 1."),
    ] = 1.0,
    json: Json = False,
) -> None:
    """Fit a model's decision thresholds again, to its validation scores."""
    from irmas_dist.cli import tables
    from irmas_dist.evaluation.thresholds import ThresholdSettings
    from irmas_dist.inference.thresholds import search_decisions

    if cost_of_missing <= 0:
        raise IrmasError(f"--cost-of-missing {cost_of_missing:g}: must be above 0")
    settings = ThresholdSettings(rule=rule, objective=objective, cost_of_missing=cost_of_missing)
    tables.thresholds(*search_decisions(model, settings, features), objective, json)
