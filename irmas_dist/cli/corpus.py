"""The commands around audio files: render, download and index."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from irmas_dist.cli.command import Config, Json, Overrides, quiet, read_recipe


class Part(StrEnum):
    """Parts of IRMAS."""

    TRAINING = "training"
    TESTING = "testing"


def _without_twin(context: typer.Context, count: int | None) -> int | None:
    if count is not None and (context.params["twin"] or context.params["catalogue"]):
        raise typer.BadParameter("a twin has as many as its catalogue lists")
    return count


def _with_twin(context: typer.Context, fraction: float | None) -> float | None:
    if fraction is not None and not (context.params["twin"] or context.params["catalogue"]):
        raise typer.BadParameter("only a twin has fractions; name one with --twin or --catalogue")
    return fraction


@quiet
def render(
    out: Annotated[Path, typer.Argument(help="Where to make the tree.")],
    soundfont: Annotated[
        list[Path] | None, typer.Option(help="General MIDI soundfont (.sf2). May be repeated.")
    ] = None,
    twin: Annotated[
        bool,
        typer.Option("--twin", is_eager=True, help="Render a twin of IRMAS: all its files, 10 GB."),
    ] = False,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            is_eager=True,
            help="Render a twin of what training.csv and testing.csv in here list.",
        ),
    ] = None,
    fraction: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            callback=_with_twin,
            help="Share of the twin's recordings, of each instrument at least one.",
            show_default="1",
        ),
    ] = None,
    recordings: Annotated[
        int | None,
        typer.Option(
            min=1,
            callback=_without_twin,
            help="Training recordings per instrument.",
            show_default="20",
        ),
    ] = None,
    clips: Annotated[
        int | None,
        typer.Option(
            min=1, callback=_without_twin, help="Clips of each recording.", show_default="3"
        ),
    ] = None,
    songs: Annotated[
        int | None,
        typer.Option(min=0, callback=_without_twin, help="Test songs.", show_default="40"),
    ] = None,
    excerpts: Annotated[
        int | None,
        typer.Option(
            min=1, callback=_without_twin, help="Excerpts of each test song.", show_default="3"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed renders the same bytes.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; none means all cores.")
    ] = None,
    json: Json = False,
) -> None:
    """Render an IRMAS-shaped tree of audio from a soundfont, or a twin of IRMAS itself."""
    from irmas_dist.cli import tables
    from irmas_dist.rendering.render import RenderSettings
    from irmas_dist.rendering.render import render as render_tree
    from irmas_dist.rendering.twin import TwinSettings, render_twin

    given: dict[str, Any] = {
        "soundfonts": soundfont,
        "seed": seed,
        "workers": workers,
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
    tables.rendered(summary, json)


@quiet
def download(
    out: Annotated[Path, typer.Argument(help="Where to make the tree.")],
    part: Annotated[
        list[Part] | None, typer.Option(help="Part to fetch; none means both. May be repeated.")
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="Mirror with the archives at <base-url>/<name>; none means Zenodo."),
    ] = None,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep the archives beside what is in them.")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch the IRMAS data set, or what is missing of it."""
    from irmas_dist.cli import tables
    from irmas_dist.corpus.download import download as fetch

    parts = part or list(Part)
    summary = fetch(out, base_url=base_url, parts=parts, keep_archives=keep_archives)
    tables.downloaded(summary, json)


@quiet
def index(
    tree: Annotated[
        str, typer.Argument(help="Root of an IRMAS tree, whole or in part, a path or URL.")
    ],
    out: Annotated[
        str, typer.Option(help="The manifest to write, a path or URL.")
    ] = "manifest.parquet",
    config: Config = None,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray to read with: 'auto' or an address; none reads on this machine."),
    ] = None,
    json: Json = False,
) -> None:
    """Read a tree of audio files into a manifest."""
    from irmas_dist.cli import tables
    from irmas_dist.corpus.groups import settle_conflicts
    from irmas_dist.corpus.index import index_tree
    from irmas_dist.corpus.manifest import write_manifest
    from irmas_dist.corpus.summary import summarise

    corpus = read_recipe(config, overrides).corpus
    rows = index_tree(tree, corpus.vocabulary, address)
    conflicts = settle_conflicts(rows, corpus.conflicts)
    write_manifest(out, rows)
    summary = summarise(rows, conflicts, corpus.vocabulary)
    tables.indexed(summary, out, corpus.vocabulary, json)
