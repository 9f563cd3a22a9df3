"""The commands that use a model: predict and export."""

from pathlib import PurePath
from typing import Annotated, Literal

import typer

from irmas_dist.cli.command import Json, quiet

Format = Literal["table", "json", "csv", "parquet"]


@quiet
def predict(
    model: Annotated[str, typer.Argument(help="Model directory, a path or URL.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES|DIRS|-",
            help="Audio files, folders of them, or - for a file's bytes on standard input.",
        ),
    ],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="None: what --out ends in, else a table."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="File for the predictions; none: standard output.")
    ] = None,
    timeline: Annotated[
        str | None,
        typer.Option(help="Folder for scores over time, a CSV and a picture of each file."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes among which Ray Data spreads the files; none: no Ray."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray to use, with all of its cores; see --workers.")
    ] = None,
    json: Json = False,
) -> None:
    """Say which instruments play in audio files, of any format, rate and length."""
    chosen = _format(form, out, json)
    # After the options are known to make sense: PyTorch takes seconds to import.
    from irmas_dist import output_inference
    from irmas_dist.inference import predict
    from irmas_dist.inference.predictor import Predictor

    spread = None
    if workers is not None or address is not None:
        spread = predict.Spread(workers, address)
    predictor = Predictor.load(model)
    predictions = predict.predict(
        predictor,
        inputs,
        model=model,
        out=out,
        form=chosen,
        timeline=timeline,
        spread=spread,
        each=output_inference.csv_printer(predictor.description)
        if chosen == "csv" and out is None
        else None,
    )
    if output_inference.predicted(predictions, predictor.description, chosen, out, timeline):
        raise typer.Exit(1)


@quiet
def export(
    model: Annotated[str, typer.Argument(help="Model directory, a path or URL.")],
    out: Annotated[
        str | None, typer.Option(help="Directory for the files; none: export in MODEL.")
    ] = None,
    check_on: Annotated[
        list[str] | None,
        typer.Option(
            help="Audio file or folder to check the export on, besides made-up clips. "
            "May be repeated."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write a model as ONNX and torch.export files that take samples, and its card in Markdown."""
    from irmas_dist import output_inference, storage
    from irmas_dist.inference import evaluate

    place = out or storage.join(model, "export")
    output_inference.exported(evaluate.export(model, place, check_on or ()), json)


def _format(form: Format | None, out: str | None, json: bool) -> Format:
    """Return the format that the options ask for, or refuse what does not go together."""
    if json and form not in (None, "json"):
        raise typer.BadParameter(f"--json and --format {form}: give one of them")
    ending = PurePath(out or "").suffix.lower().removeprefix(".")
    formats: dict[str, Format] = {"json": "json", "csv": "csv", "parquet": "parquet"}
    chosen = "json" if json else form or formats.get(ending, "table")
    if out and chosen == "table":
        raise typer.BadParameter(f"--out {out}: give --format json, csv or parquet")
    if chosen == "parquet" and not out:
        raise typer.BadParameter("--format parquet goes to a file: give --out")
    return chosen
