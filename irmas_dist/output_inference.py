"""How predictions look: one file's scores by instrument, or what plays in each of many."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

from irmas_dist.cli.tables import as_json
from irmas_dist.terminal import say, show, write

if TYPE_CHECKING:
    from irmas_dist.inference.audio_inputs import Prediction
    from irmas_dist.inference.export import ExportSummary
    from irmas_dist.training.model_directory import ModelDescription


def predicted(
    predictions: Sequence["Prediction"],
    description: "ModelDescription",
    form: str,
    out: str | None,
    timeline: str | None,
) -> bool:
    """Show predictions, or where they are, and say which files could not be used.

    Args:
        predictions: What was heard.
        description: By which model.
        form: What is shown on standard output: a table or JSON. CSV has been, line by line.
        out: The file that holds the predictions instead.
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
    """Show what was exported, and how exact it is."""
    if machine:
        as_json(asdict(summary))
        return
    for name, difference in summary.differences.items():
        clips = f"on {summary.clips} clips, scores differ from PyTorch's"
        show(escape(f"{name}: {clips} by {difference:.1e} at most"))
    show(escape(f"{', '.join(summary.files)}: {summary.path}"))


def csv_printer(description: "ModelDescription") -> Callable[["Prediction"], None]:
    """Return what prints predictions as CSV, as they come; the header goes before the first."""
    from irmas_dist.inference.results import csv_header, csv_row

    codes = description.vocabulary.codes
    header = csv_header(codes)

    def write_row(prediction: "Prediction") -> None:
        nonlocal header
        write(header + csv_row(prediction, codes))
        header = ""

    return write_row


def _one(prediction: "Prediction", description: "ModelDescription") -> Table:
    """One row per instrument, the likeliest first."""
    grid = Table(
        Column("instrument", no_wrap=True), "score", "threshold", "plays",
        caption=escape(prediction.path), caption_justify="left",
    )  # fmt: skip
    for code, score in sorted(prediction.scores.items(), key=lambda pair: -pair[1]):
        threshold = description.thresholds[code]
        said = "never" if threshold > 1 else f"{threshold:.3f}"
        plays = code in prediction.instruments
        name = description.instruments[code]
        grid.add_row(
            escape(name),
            f"{score:.3f}",
            said,
            "yes" if plays else "",
            style="bold" if plays else "",
        )
    return grid


def _many(predictions: Sequence["Prediction"], description: "ModelDescription") -> Table:
    """One row per file: what plays, the likeliest first."""
    grid = Table(Column("file", overflow="fold"), Column("plays", overflow="fold"))
    for prediction in predictions:
        grid.add_row(escape(prediction.path), escape(_heard(prediction, description)))
    return grid


def _heard(prediction: "Prediction", description: "ModelDescription") -> str:
    names, scores = description.instruments, prediction.scores
    heard = sorted(prediction.instruments, key=lambda code: -scores[code])
    if heard:
        return ", ".join(f"{names[code]} {scores[code]:.2f}" for code in heard)
    likeliest = max(scores, key=lambda code: scores[code])
    return f"none reaches its threshold; likeliest {names[likeliest]} {scores[likeliest]:.2f}"
