"""The commands around a search: sweep, review and thresholds."""

import math
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from irmas_dist.cli.command import (
    Address,
    Also,
    Config,
    DryRun,
    Init,
    Json,
    Overrides,
    command,
    given_settings,
    read_recipe,
    setting_option,
)
from irmas_dist.cli.tables import as_json, figure, show_recipe, threshold_cell, trial_tables
from irmas_dist.config.base import from_options
from irmas_dist.config.decisions import ObjectiveName, ThresholdRule, ThresholdSettings
from irmas_dist.config.shipped import shipped_names
from irmas_dist.config.sweep import SamplerName, SchedulerName, SecondObjective, SweepSettings
from irmas_dist.config.training import FurtherStore
from irmas_dist.errors import UsageError
from irmas_dist.terminal import escape, say, show

if TYPE_CHECKING:
    from irmas_dist.inference.thresholds import Candidate
    from irmas_dist.search.sweep import SweepSummary
    from irmas_dist.training.model_description import ModelDescription

SPACE = "quick"


def _fitting(name: str) -> Any:
    return setting_option(ThresholdSettings, name, "the recipe's")


@command
def sweep(
    features: Annotated[str, typer.Argument(help="Feature store, a path or URL.")],
    out: Annotated[Path, typer.Argument(help="Sweep directory; its name names the study.")],
    space: Annotated[
        str | None,
        typer.Option(
            help=f"What to search: a YAML file, or {', '.join(shipped_names('space'))}; "
            f"default: {SPACE}."
        ),
    ] = None,
    also: Also = None,
    init: Init = None,
    validate_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STORE",
            help="Judge trials by the clips of this feature store instead of mixtures of held-out "
            "clips of FEATURES. May be repeated: metrics are then means over the stores.",
        ),
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume the sweep in OUT with its own recipe, space and options; options given "
            "here replace its own.",
        ),
    ] = False,
    trials: Annotated[int | None, setting_option(SweepSettings, "trials")] = None,
    sampler: Annotated[SamplerName | None, setting_option(SweepSettings, "sampler")] = None,
    scheduler: Annotated[SchedulerName | None, setting_option(SweepSettings, "scheduler")] = None,
    against: Annotated[SecondObjective | None, setting_option(SweepSettings, "against")] = None,
    grace_epochs: Annotated[int | None, setting_option(SweepSettings, "grace_epochs")] = None,
    reduction: Annotated[float | None, setting_option(SweepSettings, "reduction")] = None,
    concurrent: Annotated[int | None, setting_option(SweepSettings, "concurrent")] = None,
    workers: Annotated[int | None, setting_option(SweepSettings, "workers")] = None,
    cpus: Annotated[float | None, setting_option(SweepSettings, "cpus")] = None,
    gpus: Annotated[float | None, setting_option(SweepSettings, "gpus")] = None,
    study: Annotated[str | None, setting_option(SweepSettings, "study")] = None,
    storage: Annotated[str | None, setting_option(SweepSettings, "storage")] = None,
    warm_start: Annotated[str | None, setting_option(SweepSettings, "warm_start")] = None,
    address: Address = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Search a space with Ray Tune and Optuna; the same command resumes a sweep."""
    given = given_settings(SweepSettings, locals())
    further = [FurtherStore.parse(each) for each in also or ()]
    from irmas_dist.search.space import load_space
    from irmas_dist.search.sweep_directory import holds_same, read_record
    from irmas_dist.storage.locks import lock_directory
    from irmas_dist.storage.results import SWEEP_FILE, refuse_other_results
    from irmas_dist.training.load import open_training_data, read_matching_infos

    if resume:
        if config or overrides or space:
            raise UsageError("--resume uses the sweep's own recipe and space: leave them out")
        record = read_record(out)
        recipe, searched = record.load(str(out))
        # The points of a warm start are in the study; the earlier study need not exist any more.
        given = record.settings.model_dump(exclude={"warm_start"}) | given
    settings = from_options(SweepSettings, {}, **given)
    if not resume:
        recipe = read_recipe(config, overrides)
        searched = load_space(space or SPACE, recipe)
        if resume := holds_same(out, recipe, searched, settings):
            settings = settings.model_copy(update={"warm_start": None})  # As above.
    if not dry_run:
        # Known before what takes seconds is imported.
        with lock_directory(out):
            refuse_other_results(str(out), SWEEP_FILE)
            read_matching_infos(features, recipe, further, validate_on or ())
    # Only now: it imports torch and Ray.
    from irmas_dist.search.checks import check_settings

    check_settings(settings, searched, recipe)
    if dry_run:
        return show_recipe(recipe, json)
    from irmas_dist.cluster.runtime import ray_running
    from irmas_dist.cluster.without_ray import LOCAL, ray_address
    from irmas_dist.reports.wandb_summary import log_summary
    from irmas_dist.search.sweep import sweep as search
    from irmas_dist.tracking.outcome import awaiting_uploads
    from irmas_dist.training.train import read_start

    start, line = read_start(init, recipe)
    if line:
        say(line)
    # Of a cluster, the nodes' memory decides whether features are held in memory.
    joined = ray_address(address) != LOCAL
    cluster = ray_running(address, dashboard=settings.workers > 1) if joined else nullcontext()
    try:
        with awaiting_uploads(recipe.tracking.wait_s), cluster:
            data = open_training_data(features, recipe, further, start, validate_on or ())
            summary = search(data, recipe, searched, out, settings, resume, address)
            show_sweep(summary, json)
            log_summary(summary)
    except (KeyboardInterrupt, SystemExit) as error:
        raise KeyboardInterrupt("the same command resumes") from error


@command
def review(
    path: Annotated[
        Path,
        typer.Argument(
            help="Sweep directory; with --sync also a model directory, or one with runs in wandb "
            "below it."
        ),
    ],
    sync: Annotated[
        bool, typer.Option("--sync", help="Upload the runs that W&B does not have yet, and exit.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the pages, on this machine only.")
    ] = 8080,
    json: Json = False,
) -> None:
    """Review a sweep in the browser, or upload its runs to W&B."""
    from irmas_dist.search import review as reviewing

    if sync:
        from irmas_dist.reports.wandb_view import try_to_save
        from irmas_dist.storage.results import SWEEP_FILE, holds

        sent, earlier = reviewing.sync(path)
        view = try_to_save(path) if holds(path, SWEEP_FILE) else None
        if json:
            return as_json({"synced": sent, "earlier": earlier, "view": view})
        runs = "1 run" if len(sent) == 1 else f"{len(sent)} runs"
        done = f"{runs} uploaded" if sent else "nothing was left to upload"
        return show(f"{done}, {earlier} were before" + (f": {view}" if view else ""))
    if json:
        raise typer.BadParameter("--json goes with --sync: there is no result otherwise")
    with reviewing.dashboard(path, port) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        say(f"{address} shows the sweep in {path}; Ctrl-C ends it")
        # Within a request, wsgiref would log the interruption, and go on.
        serving = Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            serving.join()
        except BaseException:
            server.shutdown()
            raise
    return None


@command
def thresholds(
    model: Annotated[str, typer.Argument(help="Model directory, such as SWEEP/model.")],
    features: Annotated[
        str | None,
        typer.Option(
            help="Feature store it was trained on, to choose the aggregation and the window hop "
            "too; default: thresholds only."
        ),
    ] = None,
    rule: Annotated[ThresholdRule | None, _fitting("rule")] = None,
    objective: Annotated[ObjectiveName | None, _fitting("objective")] = None,
    cost_of_missing: Annotated[float | None, _fitting("cost_of_missing")] = None,
    evidence: Annotated[float | None, _fitting("evidence")] = None,
    json: Json = False,
) -> None:
    """Fit a model's decision thresholds to its validation scores again."""
    given = given_settings(ThresholdSettings, locals())
    from_options(ThresholdSettings, {}, **given)  # Refused before the model is read.
    from irmas_dist.inference.thresholds import search_decisions
    from irmas_dist.training.model_description import read_description

    of_recipe = read_description(model).recipe.get("thresholds", {})
    settings = from_options(ThresholdSettings, {}, **(of_recipe | given))
    if cost_of_missing is not None and settings.objective != "cost":
        raise UsageError("--cost-of-missing is of the objective cost: see --objective")
    show_thresholds(*search_decisions(model, settings, features), settings.objective, json)


def show_sweep(summary: "SweepSummary", json_output: bool) -> None:
    """Show the five best trials, medians of the others, reasons of failures, and the files."""
    from irmas_dist.storage.results import BEST_FILE

    best_recipe = str(Path(summary.path, BEST_FILE))
    if json_output:
        return as_json({
            "path": summary.path,
            "trials": summary.trials,
            "importances": summary.importances,
            "best": {"recipe": best_recipe, "model": summary.model},
            "seconds": summary.seconds,
        })  # fmt: skip
    show(trial_tables(summary.trials[:5], summary.trials[5:], summary.importances, summary.against))
    reasons = [trial["reason"] for trial in summary.trials if trial["state"] == "failed"]
    for reason in dict.fromkeys(reasons):
        show(f"failed, {reasons.count(reason)}: {reason or 'its driver died'}")
    show(f"best recipe: {best_recipe}")
    if summary.model:
        show(f"best model: {summary.model}")
    path = shlex.quote(summary.path)
    return show(f"more: irmas report {path}, irmas review {path}")


def show_thresholds(
    description: "ModelDescription",
    candidates: Sequence["Candidate"],
    objective: str,
    json_output: bool,
) -> None:
    """Show a model's thresholds, and the objective of every candidate."""
    compared: list[dict[str, Any]] = [
        {
            "aggregation": one.windows.aggregation,
            "hop_frames": one.windows.hop_frames,
            "fitted": one.fitted,
            "cross_validated": None if math.isnan(one.cross_validated) else one.cross_validated,
        }
        for one in candidates
    ]
    if json_output:
        return as_json({
            "thresholds": description.thresholds,
            "thresholds_from": description.thresholds_from,
            "objective": objective,
            "compared": compared,
            "validation": description.scores,
        })  # fmt: skip
    thresholds_table = Table(
        Column("instrument", overflow="fold"), Column("threshold", no_wrap=True)
    )
    for code, value in description.thresholds.items():
        thresholds_table.add_row(escape(description.instruments[code]), threshold_cell(value))
    show(thresholds_table)
    compared_table = Table("aggregation", "hop in frames", f"{objective} fitted", "cross-validated")
    own = "its members'" if description.members else ""
    for rule, hop, fit, held_out in map(dict.values, compared):
        compared_table.add_row(
            own or rule, own or str(hop), figure(fit), figure(held_out) or "none"
        )
    show(compared_table)
    if any(one["cross_validated"] is None for one in compared):
        show("cross-validated: too few groups of clips; aggregation and hop stay as they are")
    used = "; the model uses the first row" if len(compared) > 1 else ""
    return show(f"fitted on {description.thresholds_from}{used}")
