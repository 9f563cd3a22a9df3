"""The commands that use a model: predict and export."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Column, Table

from irmas_dist.cli.command import Json, command
from irmas_dist.cli.tables import as_json
from irmas_dist.terminal import say, show, write

if TYPE_CHECKING:
    from irmas_dist.inference.audio_inputs import Prediction
    from irmas_dist.inference.export import ExportSummary
    from irmas_dist.training.model_directory import ModelDescription

Format = Literal["table", "json", "csv", "parquet"]


@command
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
        typer.Option(help="Folder for scores over time: a CSV and a heat map of each file."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Ray actors, of one core each, that share the files; none: no Ray."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="The Ray to use, with all of its cores unless --workers limits them."),
    ] = None,
    json: Json = False,
) -> None:
    """Predict which instruments play in audio files of any format, rate and length."""
    chosen = _format(form, out, json)
    # After the options have been checked: PyTorch takes seconds to import.
    from irmas_dist.inference import predict
    from irmas_dist.training.model_directory import read_description

    description = read_description(model)
    predictions = predict.predict(
        model,
        inputs,
        out=out,
        form=chosen,
        timeline=timeline,
        workers=workers,
        address=address,
        each=csv_printer(description) if chosen == "csv" and out is None else None,
    )
    if predicted(predictions, description, chosen, out, timeline):
        raise typer.Exit(1)


@command
def export(
    model: Annotated[str, typer.Argument(help="Model directory, a path or URL.")],
    out: Annotated[
        str | None, typer.Option(help="Directory for the files; none: export in MODEL.")
    ] = None,
    check_on: Annotated[
        list[str] | None,
        typer.Option(
            help="Audio file or folder to check the export on, besides synthetic clips. "
            "May be repeated."
        ),
    ] = None,
    sample_rate: Annotated[
        list[int] | None,
        typer.Option(
            min=1_000,
            metavar="HZ",
            help="Rate of the samples that an exported file takes and resamples to the model's "
            "own, such as 44100. May be repeated, for a file each; none: the model's own.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write a model as ONNX and torch.export files that take samples, and its card in Markdown."""
    from irmas_dist import storage
    from irmas_dist.inference.export import export
    from irmas_dist.reports.model_card import write_model_card

    directory = out or storage.join(model, "export")
    summary = export(model, directory, check_on or (), sample_rate or ())
    exported(write_model_card(model, summary), json)


def _format(form: Format | None, out: str | None, json: bool) -> Format:
    """Return the format that the options ask for, or refuse a contradiction."""
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


def predicted(
    predictions: Sequence["Prediction"],
    description: "ModelDescription",
    form: str,
    out: str | None,
    timeline: str | None,
) -> bool:
    """Show predictions, or where they are, and which files could not be used.

    Args:
        predictions: Of all files.
        description: The model's.
        form: Table or JSON; CSV has been printed line by line.
        out: The file that holds the predictions; None shows them.
        timeline: The folder that holds scores over time.

    Returns:
        Whether a file could not be used.
    """
    from irmas_dist.inference.results import as_object

    good = [prediction for prediction in predictions if prediction.error is None]
    bad = [prediction for prediction in predictions if prediction.error is not None]
    if out is not None:
        show(escape(f"{len(good):,} of {len(predictions):,} files predicted: {out}"))
    elif form == "json":
        as_json({"predictions": [as_object(prediction) for prediction in predictions]})
    elif form == "table" and len(predictions) == len(good) == 1:
        show(_one(good[0], description))
    elif form == "table" and good:
        show(_many(good, description))
    if timeline is not None and good:
        say(escape(f"scores over time: {timeline}"))
    for prediction in bad:
        say(escape(f"{prediction.path}: {prediction.error}"))
    return bool(bad)


def exported(summary: "ExportSummary", machine: bool) -> None:
    """Show what was exported, and how closely it agrees with PyTorch."""
    if machine:
        as_json(asdict(summary))
        return
    for name, difference in summary.differences.items():
        clips = f"on {summary.clips} clips, scores differ from PyTorch's"
        rate = summary.sample_rates[name]
        show(escape(f"{name} ({rate} Hz): {clips} by {difference:.1e} at most"))
    show(escape(f"{', '.join(summary.files)}: {summary.path}"))


def csv_printer(description: "ModelDescription") -> Callable[["Prediction"], None]:
    """Return a function that prints one prediction as CSV, with the header before the first."""
    from irmas_dist.inference.results import csv_header, csv_row

    codes = description.vocabulary.codes
    header = csv_header(codes)

    def write_row(prediction: "Prediction") -> None:
        nonlocal header
        write(header + csv_row(prediction, codes))
        header = ""

    return write_row


def _one(prediction: "Prediction", description: "ModelDescription") -> Table:
    """Return a row per instrument, the highest score first."""
    grid = Table(
        Column("instrument", no_wrap=True), "score", "threshold", "plays",
        caption=escape(prediction.path), caption_justify="left",
    )  # fmt: skip
    for code, score in sorted(prediction.scores.items(), key=lambda pair: -pair[1]):
        threshold = description.thresholds[code]
        plays = code in prediction.instruments
        grid.add_row(
            escape(description.instruments[code]),
            f"{score:.3f}",
            "never" if threshold > 1 else f"{threshold:.3f}",
            "yes" if plays else "",
            style="bold" if plays else "",
        )
    return grid


def _many(predictions: Sequence["Prediction"], description: "ModelDescription") -> Table:
    """Return a row per file with the predicted instruments, the highest score first."""
    grid = Table(Column("file", overflow="fold"), Column("plays", overflow="fold"))
    for prediction in predictions:
        grid.add_row(escape(prediction.path), escape(_summary(prediction, description)))
    return grid


def _summary(prediction: "Prediction", description: "ModelDescription") -> str:
    names, scores = description.instruments, prediction.scores
    by_score = sorted(scores, key=lambda code: -scores[code])
    if plays := [code for code in by_score if code in prediction.instruments]:
        return ", ".join(f"{names[code]} {scores[code]:.2f}" for code in plays)
    likeliest = by_score[0]
    return f"none reaches its threshold; likeliest {names[likeliest]} {scores[likeliest]:.2f}"
