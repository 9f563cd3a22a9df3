"""How scores look: figures with their protocol and interval, beside what others reach."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Column, Table

from irmas_dist.cli.tables import as_json, trial_table
from irmas_dist.terminal import show

if TYPE_CHECKING:
    from irmas_dist.evaluation.compare import Comparison
    from irmas_dist.evaluation.evaluate import Evaluation
    from irmas_dist.evaluation.protocols import Result

HEADLINE = {
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "micro_precision": "micro precision",
    "micro_recall": "micro recall",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "lrap": "LRAP",
}
"""Metrics in the tables, in order, and their headings."""


COMPACT = {"micro_f1": "micro F1", "macro_f1": "macro F1", "lrap": "LRAP"}
"""Those that published works report."""


def evaluated(evaluation: "Evaluation", machine: bool) -> None:
    """Show how a model does by each protocol, on which instruments, and beside what."""
    from irmas_dist.evaluation.baselines import protocol_of
    from irmas_dist.evaluation.published import PUBLISHED

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
            "[bold]these scores", protocol, *(_with_interval(result, key) for key in COMPACT)
        )
    grid.add_section()
    for name, values in evaluation.baselines.items():
        grid.add_row(name, protocol_of(name), *(_figure(values.get(key)) for key in COMPACT))
    grid.add_section()
    for work in PUBLISHED:
        figures = (work.micro_f1, work.macro_f1, work.lrap)
        grid.add_row(work.work, work.protocol or "not stated", *(_figure(v) for v in figures))
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


def _with_interval(result: "Result", key: str) -> str:
    return f"{result.metrics[key]:.3f}\n{_span(*result.intervals[key])}"


def _span(low: float, high: float) -> str:
    """Write an interval from 0 to 1 in few letters: ``.425-.488``."""
    return "-".join(f"{value:.3f}".removeprefix("0") for value in (low, high))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def compared(comparison: "Comparison", machine: bool) -> None:
    """Show several models side by side, and which differences are real."""
    if machine:
        as_json({
            "protocol": comparison.protocol,
            "clips": comparison.clips,
            "songs": comparison.songs,
            "models": {
                name: {"metrics": result.metrics, "intervals": result.intervals}
                for name, result in comparison.models.items()
            },
            "differences": [
                {"first": a, "second": b, "metric": metric, "difference": found.value,
                 "interval": found.interval, "p": found.p, "real": found.real}
                for (a, b), by_metric in comparison.differences.items()
                for metric, found in by_metric.items()
            ],
        })  # fmt: skip
        return
    from irmas_dist.evaluation.compare import COMPARED
    from irmas_dist.evaluation.protocols import MEANING

    headings = {**HEADLINE, "map": "mAP"}
    letters = {name: chr(ord("A") + number) for number, name in enumerate(comparison.models)}
    grid = Table(Column("", no_wrap=True), *(headings[metric] for metric in COMPARED))
    for name, result in comparison.models.items():
        grid.add_row(letters[name], *(_with_interval(result, metric) for metric in COMPARED))
    grid.add_section()
    for (a, b), by_metric in comparison.differences.items():
        cells = []
        for metric in COMPARED:
            found = by_metric[metric]
            sure = f"p {found.p:.3f}" if found.p >= 0.001 else "p < 0.001"
            low, high = found.interval
            text = f"{found.value:+.3f}\n{low:+.3f} {high:+.3f}\n{sure}"
            cells.append(f"[bold]{text}" if found.real else text)
        grid.add_row(f"{letters[a]} less {letters[b]}", *cells)
    for name, letter in letters.items():
        show(escape(f"{letter}: {name}"))
    show(grid)
    show(f"{comparison.protocol}: {MEANING[comparison.protocol]}")
    several = ", corrected for several comparisons (Holm)" if len(comparison.models) > 2 else ""
    show(
        f"{comparison.clips:,} clips of {comparison.songs:,} songs; 95 % intervals over songs, "
        f"the same for all models; p two-sided{several}"
    )


def instrument_table(instruments: Sequence[Mapping[str, Any]], protocol: str) -> Table:
    """One row per instrument: precision, recall, F1 and its interval, AP and threshold."""
    grid = Table(
        Column("instrument", no_wrap=True),
        *("clips", "prec.", "recall", "F1", "95 %", "AP", "thresh."),
        caption=f"protocol: {protocol}",
        caption_justify="left",
    )
    for row in instruments:
        values = (row["precision"], row["recall"], row["f1"])
        span = "-".join(f"{row[end]:.2f}".removeprefix("0") for end in ("f1_low", "f1_high"))
        threshold = row["threshold"]
        said = "by fold" if threshold is None else "never" if threshold > 1 else f"{threshold:.3f}"
        cells = (*(f"{value:.3f}" for value in values), span, f"{row['ap']:.3f}", said)
        grid.add_row(row["name"], str(row["clips"]), *cells)
    return grid


def metric_table(results: Mapping[str, Mapping[str, float]]) -> Table:
    """One column per model or baseline, one row per metric."""
    grid = Table("", *results)
    for key, heading in HEADLINE.items():
        grid.add_row(heading, *(f"{values[key]:.3f}" for values in results.values()))
    return grid


def demonstrated(summary: Mapping[str, Any], machine: bool) -> None:
    """Show what the demo came to."""
    if machine:
        as_json(summary)
        return
    rows = {"this model": summary["metrics"], **summary["baselines"]}
    show(trial_table(summary["trials"][:5]))
    show(instrument_table(summary["per_instrument"], summary["protocol"]))
    show(metric_table(rows))
    for name, path in summary["paths"].items():
        show(escape(f"{name.replace('_', ' ')}: {path}"))
    stages = ", ".join(f"{name} {value:.0f}" for name, value in summary["seconds"].items())
    show(f"seconds: {stages}; in all {sum(summary['seconds'].values()):.0f}")
