"""The command that joins models."""

from typing import TYPE_CHECKING, Annotated

import typer

from irmas_dist.cli.command import Json, command
from irmas_dist.cli.tables import as_json
from irmas_dist.terminal import show

if TYPE_CHECKING:
    from irmas_dist.training.model_description import ModelDescription


@command
def ensemble(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="Model directories, two or more.")
    ],
    out: Annotated[str, typer.Argument(help="The model directory to write, a path or URL.")],
    json: Json = False,
) -> None:
    """Join models of the same instruments, features and windows: scores are their means."""
    # After the options have been checked: PyTorch takes seconds to import.
    from irmas_dist.training.ensemble import join_models

    show_ensemble(join_models(models, out), out, json)


def show_ensemble(description: "ModelDescription", path: str, json_output: bool) -> None:
    """Show an ensemble."""
    if json_output:
        return as_json({
            "path": path,
            "members": [
                {"calibration": dict(one.calibration or ()), "validation": one.scores}
                for one in description.members
            ],
            "parameters": description.parameters,
            "thresholds": description.thresholds,
            "thresholds_from": description.thresholds_from,
            "validation": description.scores,
        })  # fmt: skip
    scores = description.scores
    told = (
        f"in validation micro F1 {scores['val_micro_f1']:.3f}, "
        f"macro F1 {scores['val_macro_f1']:.3f}; "
        if scores
        else ""
    )
    return show(
        f"{len(description.members)} models: {told}thresholds: {description.thresholds_from}; "
        f"{description.parameters:,} parameters in {path}"
    )
