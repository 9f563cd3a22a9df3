"""The command that runs the demo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from irmas_dist.cli.command import MAX_COUNT, DryRun, Json, command, read_recipe
from irmas_dist.cli.tables import as_json, instrument_table, metric_table, show_recipe, trial_tables
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import show


@command
def demo(
    out: Annotated[Path, typer.Option(help="Directory of all results.")] = Path("runs/demo"),
    trials: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Trials of the search.")] = 10,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Run the whole pipeline on a small rendered corpus, and compare with two baselines."""
    if dry_run:
        return show_recipe(read_recipe("demo", None), json)
    try:
        from irmas_dist.demo.demo import demo as run_demo
    except ModuleNotFoundError as error:
        raise IrmasError(f"the demo needs {error.name}: pip install 'irmas-dist[demo]'") from error
    from irmas_dist.config.tracking import TrackingSettings
    from irmas_dist.tracking.outcome import awaiting_uploads

    with awaiting_uploads(TrackingSettings().wait_s):
        return _show_results(run_demo(out, trials), json)


def _show_results(summary: Mapping[str, Any], json_output: bool) -> None:
    """Show the results of the demo."""
    if json_output:
        as_json(summary)
        return
    rows = {"this model": summary["metrics"], **summary["baselines"]}
    show(trial_tables(summary["trials"][:5]))
    show(instrument_table(summary["per_instrument"], summary["protocol"], partly_known=False))
    show(metric_table(rows))
    for name, path in summary["paths"].items():
        show(f"{name.replace('_', ' ')}: {path}")
    stages = ", ".join(f"{name} {value:.0f}" for name, value in summary["seconds"].items())
    show(f"seconds: {stages}; in all {sum(summary['seconds'].values()):.0f}")
