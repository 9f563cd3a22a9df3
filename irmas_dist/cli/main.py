"""The commands: parsing and printing only. Heavy imports wait until a command needs them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from irmas_dist.cli.command import Address, Config, DryRun, Json, Overrides, quiet, read_recipe
from irmas_dist.cli.corpus import download, index, render
from irmas_dist.cli.features import extract
from irmas_dist.cli.inference import export, predict
from irmas_dist.cli.jobs import jobs_app, submit
from irmas_dist.cli.scores import compare, evaluate, report
from irmas_dist.cli.search import review, sweep, thresholds
from irmas_dist.errors import IrmasError

app = typer.Typer(
    name="irmas",
    help="Find the instruments that play in music: train, search and use multilabel models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

for command in (render, download, index, extract):
    app.command()(command)


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: What follows ``irmas``.

    Returns:
        0 when done, 1 when the command failed, 2 when it was used wrongly, 130 when interrupted.
    """
    try:
        app(list(arguments), prog_name="irmas")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@app.command()
@quiet
def train(
    features: Annotated[str, typer.Argument(help="Feature store, a path or URL.")],
    out: Annotated[str, typer.Argument(help="The model directory to make.")],
    config: Config = None,
    overrides: Overrides = None,
    workers: Annotated[int, typer.Option(min=1, help="Data-parallel workers.")] = 1,
    min_workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Begin and go on with as few workers as this, and grow back as nodes join; "
            "none waits for all.",
        ),
    ] = None,
    cpus: Annotated[float, typer.Option(help="CPUs of each worker.")] = 1.0,
    gpu: Annotated[
        bool | None, typer.Option("--gpu/--no-gpu", help="Default: when the cluster has enough.")
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="How often to go on after a worker or node was lost.")
    ] = 3,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for room in the cluster.")
    ] = 30.0,
    address: Address = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train a model, data-parallel with Ray Train; run it again to go on where it was cut short."""
    from irmas_dist.cli import tables

    if min_workers and min_workers > workers:
        raise typer.BadParameter(f"--min-workers {min_workers} is more than --workers {workers}")
    recipe = read_recipe(config, overrides)
    if dry_run:
        return tables.recipe(recipe, json)
    from irmas_dist.cluster.runtime import gpus, ray_running, require_shared
    from irmas_dist.config.training import WorkerSettings
    from irmas_dist.features.store import read_info
    from irmas_dist.inference import evaluate

    read_info(features)  # What is no feature store is refused before Ray takes its time to start.
    with ray_running(address):
        require_shared(out)
        on_gpu = gpus() >= (min_workers or workers) if gpu is None else gpu
        spread = WorkerSettings(
            count=workers,
            least=min_workers,
            cpus=cpus,
            gpu=on_gpu,
            retries=retries,
            wait_s=wait,
        )
        description = evaluate.train(recipe, features, out, spread)
    return tables.trained(description, out, json)


for later in (sweep, review, thresholds, evaluate, compare, report, predict, export):
    app.command()(later)


@app.command()
@quiet
def demo(
    out: Annotated[Path, typer.Option(help="Directory of everything it makes.")] = Path(
        "runs/demo"
    ),
    trials: Annotated[int, typer.Option(min=1, help="Trials of the search.")] = 10,
    json: Json = False,
) -> None:
    """Do the whole job on a small rendered corpus, and compare with two baselines."""
    from irmas_dist import output_scores

    try:
        from irmas_dist.demo import demo as whole
    except ModuleNotFoundError as error:
        raise IrmasError(f"the demo needs {error.name}: pip install 'irmas-dist[demo]'") from error
    output_scores.demonstrated(whole.demo(out, trials), json)


app.command(context_settings={"allow_interspersed_args": False})(submit)
app.add_typer(jobs_app, name="jobs")
