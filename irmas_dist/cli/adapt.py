"""The command that adapts a model to audio without labels."""

from dataclasses import asdict
from math import isfinite
from typing import Annotated

import typer

from irmas_dist.cli.command import Json, StorePart, command
from irmas_dist.cli.tables import as_json
from irmas_dist.config.adaptation import AdaptationSettings
from irmas_dist.config.base import from_options
from irmas_dist.errors import UsageError
from irmas_dist.terminal import show

DEFAULTS = AdaptationSettings()

Prevalence = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CODE=SHARE",
        help="Share of the clips in which an instrument plays, where it is known: pia=0.9, vio=0. "
        "May be repeated; others are as frequent as in the validation clips.",
    ),
]


@command
def adapt(
    model: Annotated[str, typer.Argument(help="Model directory, a path or URL.")],
    to: Annotated[
        str,
        typer.Argument(
            metavar="AUDIO|STORE",
            help="What the model is adapted to, some 50 clips or more: a folder of audio, or a "
            "feature store, whose labels are not read.",
        ),
    ],
    out: Annotated[str, typer.Argument(help="Directory for the adapted model, a path or URL.")],
    share: Annotated[
        float, typer.Option(help="Share of the audio in the statistics of batch normalisation.")
    ] = DEFAULTS.share,
    match: Annotated[
        float,
        typer.Option(
            help="How far, 0 to 1, logits are moved to the mean and deviation of the validation "
            "clips."
        ),
    ] = DEFAULTS.match,
    prevalence: Prevalence = None,
    part: Annotated[
        StorePart | None,
        typer.Option(help="Part of the store; default: its only one, or the testing clips."),
    ] = None,
    json: Json = False,
) -> None:
    """Adapt a model to your own unlabelled audio."""
    settings = adaptation(share, match, prevalence)
    from irmas_dist.inference.adapt_model import adapt as adapt_model

    summary = adapt_model(model, to, out, settings, part)
    if json:
        as_json(asdict(summary))
        return
    for note in summary.notes:
        show(note)
    clips = "1 clip" if summary.clips == 1 else f"{summary.clips:,} clips"
    show(f"adapted to {clips}: {summary.path}")


def adaptation(
    share: float = DEFAULTS.share,
    match: float = DEFAULTS.match,
    prevalence: list[str] | None = None,
) -> AdaptationSettings:
    """Return the settings that options ask for."""
    shares: dict[str, float] = {}
    for given in prevalence or ():
        code, _, text = given.partition("=")
        if code in shares:
            raise UsageError(f"--prevalence {given}: {code} is given twice")
        try:
            shares[code] = float(text)
        except ValueError as error:
            raise UsageError(
                f"--prevalence {given}: expected code=share, such as pia=0.9"
            ) from error
        if not isfinite(shares[code]):
            raise UsageError(f"--prevalence {given}: must be from 0 to 1")
    return from_options(AdaptationSettings, {}, share=share, match=match, prevalence=shares)
