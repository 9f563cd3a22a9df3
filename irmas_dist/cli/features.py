"""The command that computes features."""

from pathlib import Path
from typing import Annotated

import typer

from irmas_dist.cli.command import Address, Config, DryRun, Json, Overrides, quiet, read_recipe


def _or_preview(context: typer.Context, value: str | None) -> str | None:
    if value is None and context.params.get("preview") is None:
        raise typer.BadParameter("needed, unless --preview draws a single file")
    return value


@quiet
def extract(
    manifest: Annotated[
        str | None,
        typer.Argument(
            callback=_or_preview, show_default=False, help="manifest.parquet, a path or URL."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Argument(
            callback=_or_preview, show_default=False, help="The feature store to make, path or URL."
        ),
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    max_rejects: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the manifest's files that may be unusable."),
    ] = 0.05,
    retry_rejects: Annotated[
        bool,
        typer.Option("--retry-rejects", help="Try rejected files again that have not changed."),
    ] = False,
    preview: Annotated[
        str | None,
        typer.Option(is_eager=True, help="Only draw this audio file's spectrogram to a PNG."),
    ] = None,
    preview_out: Annotated[
        Path | None,
        typer.Option(help="The picture; none: the audio file's name with .png, in this directory."),
    ] = None,
    address: Address = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Compute log-mel spectrograms with Ray Data; what is there already is not computed twice."""
    from irmas_dist.cli import tables

    recipe = read_recipe(config, overrides)
    if dry_run:
        return tables.recipe(recipe, json)
    if preview is not None:
        from irmas_dist.reports.spectrogram import draw

        picture = preview_out or Path(Path(preview).stem + ".png")
        draw(preview, recipe.features, picture)
        return tables.written(str(picture), json)
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
    return tables.extracted(summary, json)
