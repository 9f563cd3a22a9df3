"""The commands that use a model: predict and export."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Column, Table

from irmas_dist.cli.command import MAX_COUNT, AdaptTo, Json, command
from irmas_dist.cli.tables import as_json, show_notes, threshold_cell
from irmas_dist.terminal import escape, say, show, write

if TYPE_CHECKING:
    from irmas_dist.inference.audio_inputs import Prediction
    from irmas_dist.training.model_description import ModelDescription

Format = Literal["table", "json", "csv", "parquet", "mirex"]


@command
def predict(
    model: Annotated[str, typer.Argument(help="Model directory, a path or URL.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES|DIRS|-",
            help="Audio files, folders of audio files, or - for a file on standard input.",
        ),
    ],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Default: the suffix of --out, else a table."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="File for the predictions, - for standard output; default: show them."),
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="CODE=LABEL,…|FILE",
            help="With --format mirex: the labels of the model's instruments, such as "
            "gac=guitar,gel=guitar, or a YAML file of them.",
        ),
    ] = None,
    adapt_to: AdaptTo = None,
    timeline: Annotated[
        str | None,
        typer.Option(help="Folder for scores over time: a CSV file and a heat map per file."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_COUNT,
            help="Number of Ray actors, with one core each; default: run without Ray.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to use, with all of its cores unless --workers is given."),
    ] = None,
    json: Json = False,
) -> None:
    """Predict which instruments play in audio files of any length."""
    chosen = _format(form, out, json)
    if mapping is not None and chosen != "mirex":
        raise typer.BadParameter("--map is of --format mirex")
    # After the options have been checked: PyTorch takes seconds to import.
    from irmas_dist.evaluation.merging import read_mapping
    from irmas_dist.inference import predict
    from irmas_dist.inference.results import as_object
    from irmas_dist.training.model_description import read_description

    description = read_description(model)
    printer = None
    if chosen == "csv" and out is None:
        printer = _csv_printer(description.vocabulary.codes)
    try:
        predictions = predict.predict(
            model, inputs, out=out, form=chosen, timeline=timeline, workers=workers,
            address=address, each=printer, adapt_to=adapt_to,
            mapping=None if mapping is None else read_mapping(mapping),
        )  # fmt: skip
    except (KeyboardInterrupt, SystemExit) as error:
        from irmas_dist import storage

        resumes = out is not None and not storage.is_url(out)
        raise KeyboardInterrupt("the same command resumes" if resumes else "") from error
    good = [prediction for prediction in predictions if prediction.error is None]
    bad = [prediction for prediction in predictions if prediction.error is not None]
    if out is not None and json:
        failed = {prediction.name: prediction.error for prediction in bad}
        as_json({"path": out, "files": len(predictions), "failed": failed})
    elif out is not None:
        show(f"{len(good):,} of {len(predictions):,} files predicted: {out}")
    elif chosen == "json":
        as_json({"predictions": [as_object(prediction) for prediction in predictions]})
    elif chosen == "table" and len(predictions) == len(good) == 1 and adapt_to is None:
        show(_one(good[0], description))
    elif chosen == "table" and good:
        show(_many(good, description))
    notes = {each.name: each.note for each in good if each.note is not None}
    show_notes(notes, say)
    if timeline is not None and good:
        say(f"scores over time: {timeline}")
    for prediction in bad:
        say(f"{prediction.name}: {prediction.error}")
    if bad:
        raise typer.Exit(1)


@command
def export(
    model: Annotated[str, typer.Argument(help="Model directory, a path or URL.")],
    out: Annotated[
        str | None, typer.Option(help="Directory for the files; default: MODEL/export.")
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
            max=1_000_000,
            metavar="HZ",
            help="Sample rate of the exported model's input, which it resamples to the model's "
            "own. May be repeated, for a file each; default: the model's own.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Export a model to ONNX and torch.export, from samples to scores, with a model card."""
    from irmas_dist import storage
    from irmas_dist.inference.export import export
    from irmas_dist.reports.model_card import write_model_card

    directory = out or storage.join(model, "export")
    summary = export(model, directory, check_on or (), sample_rate or ())
    summary = write_model_card(model, summary)
    if json:
        as_json(asdict(summary))
        return
    for name, difference in summary.differences.items():
        clips = f"on {summary.clips} clips, scores differ from PyTorch's"
        rate = summary.sample_rates[name]
        show(f"{name} ({rate} Hz): {clips} by {difference:.1e} at most")
    show(f"{', '.join(summary.files)}: {summary.path}")


def _format(form: Format | None, out: str | None, json: bool) -> Format:
    """Return the format that the options choose; refuse options that contradict each other."""
    if json and form not in (None, "json"):
        raise typer.BadParameter(f"--json and --format {form}: give one of them")
    ending = PurePath(out or "").suffix.lower().removeprefix(".")
    formats: dict[str, Format] = {"json": "json", "csv": "csv", "parquet": "parquet"}
    chosen = "json" if json else form or formats.get(ending, "table")
    suffix = "csv" if chosen == "mirex" else chosen
    if chosen != "table" and ending in formats and ending != suffix:
        option = "--json" if json else f"--format {form}"
        raise typer.BadParameter(f"{option} and --out {out}: name the file .{suffix}")
    if out and chosen == "table":
        raise typer.BadParameter(f"--out {out}: give --format json, csv, parquet or mirex")
    if chosen in ("parquet", "mirex") and not out:
        raise typer.BadParameter(f"--format {chosen} goes to a file: give --out")
    return chosen


def _csv_printer(codes: Sequence[str]) -> Callable[["Prediction"], None]:
    """Return a function that prints one prediction as CSV, with the header before the first."""
    from irmas_dist.inference.results import csv_header, csv_row

    headers = iter([csv_header(codes)])
    return lambda prediction: write(next(headers, "") + csv_row(prediction, codes))


def _one(prediction: "Prediction", description: "ModelDescription") -> Table:
    """Return a row per instrument, the highest score first."""
    grid = Table(
        Column("instrument", overflow="fold"),
        *(Column(heading, no_wrap=True) for heading in ("score", "threshold", "plays")),
        caption=escape(prediction.name), caption_justify="left",
    )  # fmt: skip
    for code, score in sorted(prediction.scores.items(), key=lambda pair: -pair[1]):
        plays = code in prediction.instruments
        grid.add_row(
            escape(description.instruments[code]),
            f"{score:.3f}",
            threshold_cell(description.thresholds[code]),
            "yes" if plays else "",
            style="bold" if plays else "",
        )
    return grid


def _many(predictions: Sequence["Prediction"], description: "ModelDescription") -> Table:
    """Return a row per file with the predicted instruments, the highest score first."""
    grid = Table(Column("file", overflow="fold"), Column("plays", overflow="fold"))
    for prediction in predictions:
        grid.add_row(escape(prediction.name), escape(_summary(prediction, description)))
    return grid


def _summary(prediction: "Prediction", description: "ModelDescription") -> str:
    names, scores = description.instruments, prediction.scores
    by_score = sorted(scores, key=lambda code: -scores[code])
    if plays := [code for code in by_score if code in prediction.instruments]:
        return ", ".join(f"{names[code]} {scores[code]:.2f}" for code in plays)
    if not any(scores.values()):
        return "none: silent"
    likeliest = by_score[0]
    return f"none reaches its threshold; likeliest {names[likeliest]} {scores[likeliest]:.2f}"
