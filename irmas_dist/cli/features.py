"""The command that computes features, and its summary."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irmas_dist.cli.command import Address, Config, DryRun, Json, Overrides, command, read_recipe
from irmas_dist.cli.tables import as_json, show_notes, show_path, show_recipe
from irmas_dist.config.features import MAX_REJECTS
from irmas_dist.terminal import say, show

if TYPE_CHECKING:
    from irmas_dist.features.extract import ExtractSummary


def _or_preview(context: typer.Context, value: str | None) -> str | None:
    if value is None and context.params.get("preview") is None:
        raise typer.BadParameter("required, unless --preview draws a single file")
    return value


def _argument(text: str) -> Any:
    return typer.Argument(callback=_or_preview, show_default=False, help=text)


@command
def extract(
    manifest: Annotated[str | None, _argument("manifest.parquet, a path or URL.")] = None,
    out: Annotated[str | None, _argument("The feature store, a path or URL.")] = None,
    config: Config = None,
    overrides: Overrides = None,
    max_rejects: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the manifest's files that may be unusable."),
    ] = MAX_REJECTS,
    retry_rejects: Annotated[
        bool, typer.Option("--retry-rejects", help="Try unchanged rejected files again.")
    ] = False,
    preview: Annotated[
        str | None,
        typer.Option(is_eager=True, help="Only draw the spectrogram of this audio file to a PNG."),
    ] = None,
    preview_out: Annotated[
        Path | None,
        typer.Option(
            help="The picture, - for standard output; default: the audio file's name with .png, "
            "in this directory."
        ),
    ] = None,
    address: Address = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Compute log-mel spectrograms with Ray Data; existing ones are not computed again."""
    if preview_out is not None and preview is None:
        raise typer.BadParameter("--preview-out names the picture that --preview draws")
    recipe = read_recipe(config, overrides, used=("corpus", "features"))
    if dry_run:
        return show_recipe(recipe, json)
    if preview is not None:
        from irmas_dist import storage
        from irmas_dist.reports.spectrogram import draw

        picture = preview_out or Path(storage.name_after(Path(preview).stem, ".png"))
        if note := draw(preview, recipe.features, picture):
            show_notes({preview: note}, say)
        return show_path(str(picture), json)
    from irmas_dist.features.extract import extract as extract_features

    assert manifest is not None
    assert out is not None
    summary = extract_features(
        manifest,
        out,
        recipe.features,
        recipe.corpus.vocabulary,
        address=address,
        max_rejects=max_rejects,
        retry_rejects=retry_rejects,
    )
    return show_extraction(summary, json)


def show_extraction(summary: "ExtractSummary", json_output: bool) -> None:
    """Show the outcome of an extraction."""
    if json_output:
        as_json(asdict(summary) | {"realtime_factor": summary.realtime_factor})
        return
    for reason, count in list(summary.rejects.items())[:5]:
        show(f"rejected, {count:,}: {reason}")
    if summary.rejects:
        show(f"{sum(summary.rejects.values()):,} rejected: {summary.path}/rejects.parquet")
    show_notes(summary.notes)
    if summary.rewritten:
        show(f"{summary.rewritten:,} shards updated to the manifest")
    if summary.computed:
        show(
            f"{summary.computed:,} clips computed, {summary.hours:.2f} hours of audio at "
            f"{summary.realtime_factor:,.0f} times real time, {summary.bytes / 1e6:,.1f} MB written"
        )
    show(f"{summary.clips:,} clips, {summary.seconds:.1f} s: {summary.path}")
