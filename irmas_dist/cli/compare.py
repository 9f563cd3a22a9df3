"""The command that compares models on the same clips."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from irmas_dist.cli.command import Config, Json, Overrides, command, read_recipe
from irmas_dist.cli.given_scores import LabelFile, require_instruments
from irmas_dist.cli.tables import HEADINGS, as_json, with_interval
from irmas_dist.config.decisions import Protocol
from irmas_dist.errors import UsageError
from irmas_dist.terminal import show

if TYPE_CHECKING:
    from irmas_dist.evaluation.compare import Comparison, Difference


@command
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: evaluated model directories, or scores, as evaluate --scores."
        ),
    ],
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            help="How thresholds are chosen; default: by validation where all models have their "
            "own."
        ),
    ] = None,
    labels: LabelFile = None,
    config: Config = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Compare models on the same clips, and test which differences are significant."""
    from irmas_dist import storage
    from irmas_dist.config.decisions import FOR_SCORES
    from irmas_dist.evaluation.compare import compare, default_protocol
    from irmas_dist.inference.evaluate import notes_on, open_evaluated, takes_labels

    if len(models) < 2:
        raise typer.BadParameter("two or more are needed to compare")
    places = list(map(storage.real, models))
    if len(set(places)) != len(places):
        raise UsageError(f"{models[places.index(max(places, key=places.count))]} is named twice")
    labelled = any(map(takes_labels, models))
    if labels is not None and not labelled:
        raise UsageError(f"--labels {labels}: all of these have labels of their own; leave it out")
    recipe = read_recipe(config, overrides, used=("corpus", "thresholds"))
    opened = {model: open_evaluated(model, labels, recipe.corpus.vocabulary) for model in models}
    decided = protocol or default_protocol(thresholds for _, thresholds, _ in opened.values())
    _refuse_unused(config, overrides or (), decided, labelled=labelled)
    for model, (scores, *_) in opened.items():
        require_instruments(recipe.corpus, scores, model)
    if config or overrides:
        settings = recipe.thresholds
    else:
        # Evidence counts for validation clips only.
        alike = {"evidence": FOR_SCORES.evidence}
        own = {settings.model_copy(update=alike) for *_, settings in opened.values()}
        settings = own.pop() if len(own) == 1 else FOR_SCORES
    scored = {model: (scores, thresholds) for model, (scores, thresholds, _) in opened.items()}
    found = compare(scored, protocol, settings)
    adapted = {model: scores.adapted_to for model, (scores, _) in scored.items()}
    notes = {
        model: [*(notes_on(one) if one.scored_by else ()), *one.notes]
        for model, (one, _) in scored.items()
    }
    show_comparison(found, adapted, notes, json)


def _refuse_unused(
    config: str | None, overrides: Sequence[str], protocol: Protocol, *, labelled: bool
) -> None:
    """Refuse a recipe of which a comparison uses nothing, and settings that it does not use.

    Args:
        config: The recipe.
        overrides: The settings.
        protocol: How thresholds are chosen.
        labelled: Whether some scores have the instruments of the recipe.
    """
    from irmas_dist.evaluation.protocols import FITTED

    unused = {}
    if protocol not in FITTED:
        unused["thresholds"] = (
            f"no thresholds are fitted by the protocol {protocol}; leave it out, or compare with "
            "--protocol oracle"
        )
    if not labelled:
        unused["corpus"] = "all of these have instruments of their own; leave it out"
    for override in overrides:
        if reason := unused.get(override.partition("=")[0].partition(".")[0].strip()):
            raise UsageError(f"--set {override}: {reason}")
    if config is not None and len(unused) == 2:
        raise UsageError(f"--config {config}: {unused['thresholds']}")


def show_comparison(
    comparison: "Comparison",
    adapted: Mapping[str, str],
    notes: Mapping[str, Sequence[str]],
    json_output: bool,
) -> None:
    """Show several models side by side, and which differences are significant.

    Args:
        comparison: The figures.
        adapted: What each was adapted to; empty where to nothing.
        notes: What is to be known of the scores of each.
        json_output: Whether to print JSON.
    """
    from irmas_dist.evaluation.protocols import CHOSEN_BEFORE, FITTED, MEANING

    fitted = comparison.settings.summary if comparison.protocol in FITTED else None
    protocols = dict.fromkeys(comparison.models, comparison.protocol)
    if comparison.protocol in CHOSEN_BEFORE:
        protocols = {name: "adapted" if adapted[name] else "validation" for name in protocols}
    if json_output:
        as_json({
            "clips": comparison.clips,
            "songs": comparison.songs,
            "fitted": fitted,
            "models": {
                name: {
                    "protocol": protocols[name],
                    "adapted_to": adapted[name] or None,
                    "notes": list(notes[name]),
                    "metrics": result.metrics,
                    "intervals": result.intervals,
                }
                for name, result in comparison.models.items()
            },
            "differences": [
                {"first": a, "second": b, "metric": metric, "difference": found.value,
                 "interval": found.interval, "p": found.p, "significant": found.significant}
                for (a, b), by_metric in comparison.differences.items()
                for metric, found in by_metric.items()
            ],
        })  # fmt: skip
        return
    series = ("".join(of) for size in (1, 2) for of in product(ascii_uppercase, repeat=size))
    letters = dict(zip(comparison.models, series, strict=False))
    for name, letter in letters.items():
        to = f", adapted to {adapted[name]}" if adapted[name] else ""
        show(f"{letter}: {name}{to}")
    show(_grid(comparison, letters))
    for protocol in dict.fromkeys(protocols.values()):
        of = [letters[name] for name in comparison.models if protocols[name] == protocol]
        whose = "" if len(of) == len(letters) else f"{', '.join(of)}: "
        show(f"{whose}{protocol}: {MEANING[protocol]}{f' ({fitted})' if fitted else ''}")
    for name, told in notes.items():
        for note in told:
            show(f"{letters[name]}: {note}")
    for line in _findings(comparison, letters):
        show(line)


def _grid(comparison: "Comparison", letters: Mapping[str, str]) -> Table:
    """Return a row of figures for each model, and one for each difference of two."""
    from irmas_dist.evaluation.published import figures_of

    metrics = figures_of(comparison.vocabulary)
    columns = (Column(HEADINGS[metric], no_wrap=True) for metric in metrics)
    grid = Table(Column("", no_wrap=True), *columns)
    for name, result in comparison.models.items():
        grid.add_row(letters[name], *(with_interval(result, metric) for metric in metrics))
    grid.add_section()
    for (a, b), by_metric in comparison.differences.items():
        cells = (_difference(by_metric[metric]) for metric in metrics)
        grid.add_row(f"{letters[a]} - {letters[b]}", *cells)
    return grid


def _difference(found: "Difference") -> str:
    """Return a cell of a difference, its interval and its p-value, in bold if it is significant."""
    lines = [f"{found.value:+.3f}"]
    if found.interval:
        lines.append("{:+.3f} {:+.3f}".format(*found.interval))
    if found.p is not None:
        lines.append(f"p {found.p:.3f}" if found.p >= 0.001 else "p < 0.001")
    text = "\n".join(lines)
    return f"[bold]{text}" if found.significant else text


def _findings(comparison: "Comparison", letters: Mapping[str, str]) -> Iterator[str]:
    """Yield which differences are significant, and how that was tested."""
    from irmas_dist.evaluation.bootstrap import FEW_SONGS
    from irmas_dist.evaluation.published import figures_of, groups_of

    significant = [
        f"{letters[a]} - {letters[b]} {HEADINGS[metric]}"
        for (a, b), by_metric in comparison.differences.items()
        for metric in figures_of(comparison.vocabulary)
        if by_metric[metric].significant
    ]
    yield f"significant differences: {', '.join(significant) or 'none'}"
    one, groups = comparison.songs == 1, groups_of(comparison.vocabulary)
    songs = f"{comparison.songs:,} {groups.removesuffix('s') if one else groups}"
    few = " (too narrow with so few)" if comparison.songs < FEW_SONGS else ""
    same = f"95 % intervals over {groups}{few}, the same for all models"
    spans = "no intervals" if one else same
    several = ", corrected for several comparisons (Holm)" if len(comparison.models) > 2 else ""
    tested = all(
        found.p is not None
        for by_metric in comparison.differences.values()
        for found in by_metric.values()
    )
    p = (
        f"p two-sided, of a permutation test over {groups}{several}"
        if tested
        else f"no p: of so few {groups}, none could be below 0.05"
    )
    yield f"{comparison.clips:,} clips of {songs}; {spans}; {p}"
