"""The command render."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from irmas_dist.cli.command import MAX_COUNT, Json, command
from irmas_dist.cli.corpus import Dataset
from irmas_dist.cli.tables import as_json
from irmas_dist.terminal import show


def _without_twin(context: typer.Context, count: int | None) -> int | None:
    if count is not None and (context.params["twin"] or context.params["catalogue"]):
        raise typer.BadParameter("a twin has as many as its data set")
    return count


def _with_twin(context: typer.Context, fraction: float | None) -> float | None:
    if fraction is not None and not (context.params["twin"] or context.params["catalogue"]):
        raise typer.BadParameter("only a twin has fractions; name one with --twin or --catalogue")
    return fraction


def _count(help_text: str, default: str, minimum: int = 1) -> Any:
    return typer.Option(
        min=minimum, max=MAX_COUNT, callback=_without_twin, help=help_text, show_default=default
    )


@command
def render(
    out: Annotated[Path, typer.Argument(help="Root of the tree to render.")],
    soundfont: Annotated[
        list[Path] | None, typer.Option(help="General MIDI soundfont (.sf2). May be repeated.")
    ] = None,
    twin: Annotated[
        Dataset | None,
        typer.Option(
            is_eager=True,
            help="Render a twin of a data set: all files of IRMAS (10 GB) or OpenMIC-2018 (3 GB).",
        ),
    ] = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            is_eager=True,
            help="Render a twin in IRMAS's shape, of the files listed in its training.csv and "
            "testing.csv.",
        ),
    ] = None,
    fraction: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            callback=_with_twin,
            help="Share of the twin's recordings, at least one of each instrument.",
            show_default="1",
        ),
    ] = None,
    recordings: Annotated[int | None, _count("Training recordings per instrument.", "20")] = None,
    clips: Annotated[int | None, _count("Clips of each recording.", "3")] = None,
    songs: Annotated[int | None, _count("Test songs.", "40", minimum=0)] = None,
    excerpts: Annotated[int | None, _count("Excerpts of each test song.", "3")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed renders the same bytes.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, max=MAX_COUNT, help="Processes; default: one per core.")
    ] = None,
    json: Json = False,
) -> None:
    """Render an IRMAS-shaped tree of audio from a soundfont, or a twin of a data set."""
    if catalogue and twin is Dataset.OPENMIC:
        raise typer.BadParameter("--catalogue: a twin of OpenMIC-2018 has none")
    from irmas_dist.rendering.render import RenderSettings
    from irmas_dist.rendering.render import render as render_tree
    from irmas_dist.rendering.twin import TwinSettings, render_twin

    given: dict[str, Any] = {
        "soundfonts": soundfont,
        "seed": seed,
        "workers": workers,
        "dataset": twin and twin.value,
        "catalogue": catalogue,
        "fraction": fraction,
        "recordings": recordings,
        "clips_per_recording": clips,
        "songs": songs,
        "excerpts_per_song": excerpts,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if twin or catalogue:
        summary = render_twin(out, TwinSettings(**given))
    else:
        summary = render_tree(out, RenderSettings(**given))
    if json:
        as_json(asdict(summary))
        return
    if summary.kept_files:
        show(f"existing: {summary.kept_files:,} files")
    show(
        f"{summary.training_files:,} training clips and {summary.testing_files:,} test excerpts, "
        f"{summary.audio_s / 60:,.0f} minutes, {summary.bytes / 1e6:,.0f} MB in "
        f"{summary.path}"
    )
