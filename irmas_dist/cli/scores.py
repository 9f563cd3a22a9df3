"""The commands around scores: evaluate, compare and report."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from irmas_dist.cli.command import Address, Config, Json, Overrides, command, read_recipe
from irmas_dist.cli.corpus import Part
from irmas_dist.cli.tables import as_json, figure, instrument_table, show_path, with_interval
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import show

if TYPE_CHECKING:
    from irmas_dist.evaluation.evaluate import Evaluation

if TYPE_CHECKING:
    from irmas_dist.evaluation.evaluate import Evaluation

COMPACT = {"micro_f1": "micro F1", "macro_f1": "macro F1", "lrap": "LRAP"}
"""Those that published works report."""


Labels = Annotated[
    str | None,
    typer.Option(help="For scores in CSV: CSV of path and instruments (gac|voi); none: IRMAS's."),
]

Threshold = Annotated[
    float | None, typer.Option(help="With --scores: one threshold, chosen beforehand.")
]
FitOn = Annotated[
    str | None,
    typer.Option(help="With --scores: held-out scores to fit thresholds to, mixed if need be."),
]
FitLabels = Annotated[
    str | None, typer.Option(help="Labels of --fit-on, if that is CSV; none: IRMAS's.")
]


@command
def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="Model directory; none with --scores.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Feature store with the clips to score.")
    ] = None,
    tree: Annotated[
        Path | None, typer.Option(help="IRMAS tree with the clips to score, instead of a store.")
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(help="Scores of any model: scores.parquet, or CSV of path and instruments."),
    ] = None,
    labels: Labels = None,
    threshold: Threshold = None,
    fit_on: FitOn = None,
    fit_labels: FitLabels = None,
    part: Annotated[Part, typer.Option(help="Part of the store or tree to score.")] = Part.TESTING,
    out: Annotated[
        str | None, typer.Option(help="Where to write scores.parquet; none: the model directory.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Where to keep what --tree needs; none: nowhere.")
    ] = None,
    address: Address = None,
    config: Config = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Score clips with known labels and say how well that is, beside published results."""
    given = [option for option in (features, tree, scores) if option is not None]
    if len(given) != 1 or (model is None) != (scores is not None):
        raise typer.BadParameter("give MODEL with --features or --tree, or --scores without MODEL")
    if scores is None and (labels or threshold is not None or fit_on or fit_labels):
        raise typer.BadParameter("a model has thresholds and its clips have labels: see --scores")
    if scores is None and (config or overrides):
        raise typer.BadParameter("a model has a recipe of its own: see --scores")
    if scores is not None:
        evaluated(_judge(scores, labels, threshold, fit_on, fit_labels, config, overrides), json)
        return
    from irmas_dist.inference import evaluate

    assert model is not None
    if features is not None:
        evaluation = evaluate.evaluate(model, features, out or model, part)
    else:
        assert tree is not None
        with tempfile.TemporaryDirectory(prefix="irmas-") as scratch:
            place = work or Path(scratch)
            evaluation = evaluate.evaluate_tree(model, tree, out or model, part, place, address)
    evaluated(evaluation, json)


def _judge(
    scores: str,
    labels: str | None,
    threshold: float | None,
    fit_on: str | None,
    fit_labels: str | None,
    config: str | None,
    overrides: list[str] | None,
) -> "Evaluation":
    """Judge a file of scores, with thresholds from where the options say."""
    import numpy as np

    from irmas_dist.config.decisions import ThresholdSettings
    from irmas_dist.evaluation import evaluate
    from irmas_dist.evaluation.csv_scores import open_scores
    from irmas_dist.instruments import IRMAS

    if threshold is not None and fit_on is not None:
        raise typer.BadParameter("--threshold and --fit-on: give one of them")
    # Fitted to other clips than are judged, a threshold for each instrument does worse than one.
    vocabulary, settings = IRMAS, ThresholdSettings(rule="global")
    if config or overrides:
        recipe = read_recipe(config, overrides, used=("corpus", "thresholds"))
        vocabulary, settings = recipe.corpus.vocabulary, recipe.thresholds
    read = open_scores(scores, labels, vocabulary)
    if threshold is not None:
        if not 0 <= threshold <= 1:
            raise IrmasError(f"--threshold {threshold:g}: must be from 0 to 1")
        chosen = np.full(len(read.vocabulary), threshold, np.float32)
        return evaluate.evaluate_scores(
            read, scores, chosen, f"{threshold:g}, chosen beforehand", settings
        )
    if fit_on is not None:
        chosen, origin = evaluate.thresholds_from(fit_on, fit_labels, settings, read.vocabulary)
        return evaluate.evaluate_scores(read, scores, chosen, origin, settings)
    return evaluate.evaluate_scores(read, scores, settings=settings)


@command
def report(
    model: Annotated[
        str | None,
        typer.Argument(help="Model directory, or that of a sweep; none with --scores alone."),
    ] = None,
    scores: Annotated[
        str | None, typer.Option(help="Scores file; none: scores.parquet in the model directory.")
    ] = None,
    labels: Labels = None,
    threshold: Threshold = None,
    fit_on: FitOn = None,
    fit_labels: FitLabels = None,
    tree: Annotated[
        Path | None, typer.Option(help="Tree of the audio: the worst clips can then be heard.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="The page; none: report.html in the model directory.")
    ] = None,
    json: Json = False,
) -> None:
    """Write one HTML page on how a model does, or on what a sweep found."""
    if model is None:
        if scores is None or out is None:
            raise typer.BadParameter("give MODEL, or --scores and --out")
        from irmas_dist.reports.model_page import write_evaluation_page

        judged = _judge(scores, labels, threshold, fit_on, fit_labels, None, None)
        write_evaluation_page(judged, out, title=Path(scores).stem, tree=tree)
        return show_path(out, json)
    if labels or threshold is not None or fit_on or fit_labels:
        raise typer.BadParameter("a model has thresholds and its clips have labels: see --scores")
    from irmas_dist import storage
    from irmas_dist.evaluation.scores import read_scores
    from irmas_dist.reports.model_page import report_on_model

    page = out or storage.join(model, "report.html")
    if storage.exists(storage.join(model, "sweep.json")):
        from irmas_dist.reports.sweep_page import write_sweep_page

        write_sweep_page(Path(model), page)
        return show_path(page, json)
    read = read_scores(scores or storage.join(model, "scores.parquet"))
    report_on_model(model, read, page, tree=tree)
    return show_path(page, json)


def evaluated(evaluation: "Evaluation", machine: bool) -> None:
    """Show how a model does by each protocol, on which instruments, and beside what."""
    from irmas_dist.evaluation.baselines import PUBLISHED, protocol_of

    if machine:
        headline = evaluation.headline
        as_json({
            "protocol": headline.protocol,
            "metrics": headline.metrics,
            "intervals": headline.intervals,
            "protocols": {
                protocol: {"metrics": result.metrics, "intervals": result.intervals}
                for protocol, result in evaluation.results.items()
            },
            "per_instrument": evaluation.instruments,
            "thresholds_from": evaluation.thresholds_from,
            "baselines": {
                name: {"protocol": protocol_of(name), **values}
                for name, values in evaluation.baselines.items()
            },
            "published": [asdict(work) for work in PUBLISHED],
            "clips": len(evaluation.scores.clip_ids),
            "songs": len(set(evaluation.scores.groups)),
            "notes": evaluation.notes,
            "path": evaluation.path,
        })  # fmt: skip
        return
    show(instrument_table(evaluation.instruments, evaluation.headline.protocol))
    grid = Table(Column("", no_wrap=True), Column("protocol", no_wrap=True), *COMPACT.values())
    for protocol, result in evaluation.results.items():
        grid.add_row(
            "[bold]these scores", protocol, *(with_interval(result, key) for key in COMPACT)
        )
    grid.add_section()
    for name, values in evaluation.baselines.items():
        grid.add_row(name, protocol_of(name), *(figure(values.get(key)) for key in COMPACT))
    grid.add_section()
    for work in PUBLISHED:
        figures = (work.micro_f1, work.macro_f1, work.lrap)
        grid.add_row(work.work, work.protocol or "not stated", *(figure(v) for v in figures))
    show(grid)
    _explain(evaluation)
    for note in evaluation.notes:
        show(escape(note))
    songs = len(set(evaluation.scores.groups))
    clips = f"{len(evaluation.scores.clip_ids):,} clips of {songs:,} songs"
    show(escape(f"{clips}; below figures 95 % intervals over songs; scores: {evaluation.path}"))


def _explain(evaluation: "Evaluation") -> None:
    """Say what the protocols are that the figures are of."""
    from irmas_dist.evaluation.protocols import MEANING

    for protocol in evaluation.results:
        chosen = f": {evaluation.thresholds_from}" if protocol == "validation" else ""
        show(escape(f"{protocol}: {MEANING[protocol]}{chosen}"))
    show("published: tested on IRMAS's 2,874 test excerpts; compare with nothing else")
