"""The commands around a search: sweep, thresholds, and review of what was found."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from irmas_dist.cli.command import Address, Config, DryRun, Json, Overrides, command, read_recipe
from irmas_dist.cli.tables import as_json, cell, show_recipe, trial_table
from irmas_dist.config.shipped import shipped_names
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import say, show

if TYPE_CHECKING:
    from irmas_dist.inference.thresholds import Candidate
    from irmas_dist.search.sweep import SweepSummary
    from irmas_dist.training.model_directory import ModelDescription

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
    from irmas_dist.config.sweep import SweepSettings
    from irmas_dist.search.space import Space

SPACE = "quick"


@command
def sweep(
    features: Annotated[str, typer.Argument(help="Feature store, a path or URL.")],
    out: Annotated[Path, typer.Argument(help="Directory of the sweep; its name names the study.")],
    space: Annotated[
        str | None,
        typer.Option(
            help=f"What to search: a YAML file, or {', '.join(shipped_names('space'))}; "
            f"none: {SPACE}."
        ),
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
    if dry_run:
        return show_recipe(recipe, json)
    from irmas_dist.cluster.runtime import ray_running, require_shared
    from irmas_dist.reports.wandb_summary import log_summary
    from irmas_dist.search.sweep import sweep as search
    from irmas_dist.training.data import open_training_data

    task = open_training_data(features, recipe)
    try:
        with ray_running(address, dashboard=settings.workers > 1):
            require_shared(settings.storage or str(out))  # Trials write only there.
            summary = search(task, recipe, searched, out, settings, resume)
            log_summary(summary)
    except KeyboardInterrupt:
        say(f"go on with it: irmas sweep {features} {out} --resume")
        raise
    return swept(summary, json)


def _new(
    out: Path,
    config: str | None,
    overrides: list[str] | None,
    space: str | None,
    chosen: dict[str, Any],
) -> "tuple[Recipe, Space, SweepSettings]":
    from irmas_dist.search.space import load_space

    recipe = read_recipe(config, overrides)
    searched = load_space(space or SPACE, recipe)
    from irmas_dist.config.sweep import SweepSettings
    from irmas_dist.search.sweep_directory import require_new

    require_new(out)  # Before Ray takes its time to start.
    return recipe, searched, SweepSettings(**chosen)


def _recorded(out: Path, chosen: dict[str, Any]) -> "tuple[Recipe, Space, SweepSettings]":
    from irmas_dist.config.sweep import SweepSettings
    from irmas_dist.search.sweep_directory import read_record

    record = read_record(out)
    recipe, searched = record.load(str(out))
    # What a warm start gave is in the study; the earlier one need not be there any more.
    kept = record.settings.model_dump(exclude={"warm_start"})
    return recipe, searched, SweepSettings.model_validate(kept | chosen)


@command
def review(
    path: Annotated[Path, typer.Argument(help="Directory of a sweep.")],
    sync: Annotated[
        bool, typer.Option("--sync", help="Upload its offline runs to W&B, and show nothing.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the pages, on this machine only.")] = 8080,
    json: Json = False,
) -> None:
    """Look through a sweep in the browser, or upload its runs to W&B."""
    from irmas_dist.search import review as reviewing

    if sync:
        return synced(reviewing.sync(path), json)
    with reviewing.dashboard(path, port) as server:
        say(f"http://127.0.0.1:{server.server_port} shows the sweep in {path}; Ctrl-C ends it")
        server.serve_forever()
    return None


@command
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
    from irmas_dist.config.decisions import ThresholdSettings
    from irmas_dist.inference.thresholds import search_decisions

    if cost_of_missing <= 0:
        raise IrmasError(f"--cost-of-missing {cost_of_missing:g}: must be above 0")
    settings = ThresholdSettings(rule=rule, objective=objective, cost_of_missing=cost_of_missing)
    fitted(*search_decisions(model, settings, features), objective, json)


def swept(summary: "SweepSummary", machine: bool) -> None:
    """Show the best five trials of a sweep, what set them apart, and what became of the rest."""
    if machine:
        as_json({
            "path": summary.path,
            "trials": summary.trials,
            "importances": summary.importances,
            "best": {"recipe": str(Path(summary.path, "best.yaml")), "model": summary.model},
            "seconds": summary.seconds,
        })  # fmt: skip
        return
    show(trial_table(summary.trials[:5], summary.trials[5:], summary.importances))
    reasons = [trial["reason"] for trial in summary.trials if trial["state"] == "failed"]
    for reason in dict.fromkeys(reasons):
        show(escape(f"failed, {reasons.count(reason)}: {reason or 'its driver died'}"))
    show(escape(f"best recipe: {Path(summary.path, 'best.yaml')}"))
    if summary.model:
        show(escape(f"best model: {summary.model}"))
    show(escape(f"more: irmas report {summary.path}, irmas review {summary.path}"))


def synced(runs: Sequence[str], machine: bool) -> None:
    """Show which runs were uploaded."""
    if machine:
        as_json({"synced": list(runs)})
        return
    show(f"{len(runs)} runs uploaded")


def fitted(
    description: "ModelDescription",
    candidates: Sequence["Candidate"],
    objective: str,
    machine: bool,
) -> None:
    """Show a model's thresholds, what they were fitted to, and what they are worth elsewhere."""
    compared = [
        {
            "aggregation": candidate.windows.aggregation,
            "hop_frames": candidate.windows.hop_frames,
            "fitted": candidate.fitted,
            "cross_validated": None
            if math.isnan(candidate.cross_validated)
            else candidate.cross_validated,
        }
        for candidate in candidates
    ]
    if machine:
        as_json({
            "thresholds": description.thresholds,
            "thresholds_from": description.thresholds_from,
            "objective": objective,
            "compared": compared,
            "validation": description.scores,
        })  # fmt: skip
        return
    grid = Table("instrument", "threshold")
    for code, value in description.thresholds.items():
        grid.add_row(description.instruments[code], f"{value:.3f}")
    show(grid)
    ways = Table("aggregation", "hop in frames", f"{objective} fitted", "cross-validated")
    for row in compared:
        ways.add_row(*(cell(value) for value in row.values()))
    show(ways)
    show(f"fitted on {description.thresholds_from}; the first way is the model's now")
