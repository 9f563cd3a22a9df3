"""How the figures of an evaluation are shown."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from irmas_dist.cli.tables import HEADINGS, as_json, figure, instrument_table, with_interval
from irmas_dist.terminal import show

if TYPE_CHECKING:
    from irmas_dist.evaluation.evaluate import Evaluation
    from irmas_dist.evaluation.published import Published


def show_evaluation(evaluation: "Evaluation", json_output: bool) -> None:
    """Show figures by instrument and by protocol, beside baselines and published results."""
    from irmas_dist.evaluation.published import benchmark_of

    benchmark = benchmark_of(evaluation.scores.vocabulary)
    works = benchmark.works if benchmark else ()
    if json_output:
        as_json(_facts(evaluation, works))
        return
    protocol = evaluation.headline.protocol
    show(instrument_table(evaluation.instruments, protocol, evaluation.partly_known))
    show(_overall(evaluation, works))
    for line in _protocols(evaluation):
        show(line)
    if benchmark:
        clips = f"{benchmark.name}'s {benchmark.clips:,} test clips"
        show(f"published: on {clips}; not comparable on others; sources with --json")
    for note in evaluation.notes:
        show(note)
    show(f"{_clips(evaluation)}; scores: {evaluation.path}")


def _facts(evaluation: "Evaluation", works: Sequence["Published"]) -> dict[str, Any]:
    """Return everything as JSON has it."""
    from irmas_dist.evaluation.baselines import protocol_of

    headline = evaluation.headline
    return {
        "protocol": headline.protocol,
        "metrics": headline.metrics,
        "intervals": headline.intervals,
        "protocols": {
            protocol: {"metrics": result.metrics, "intervals": result.intervals}
            for protocol, result in evaluation.results.items()
        },
        "per_instrument": evaluation.instruments,
        "thresholds_from": evaluation.thresholds_from,
        "fitted": evaluation.settings.summary,
        "baselines": {
            name: {"protocol": protocol_of(name), **values}
            for name, values in evaluation.baselines.items()
        },
        "published": [asdict(work) for work in works],
        "clips": len(evaluation.scores.clip_ids),
        "songs": len(set(evaluation.scores.groups)),
        "notes": evaluation.notes,
        "path": evaluation.path,
    }


def _overall(evaluation: "Evaluation", works: Sequence["Published"]) -> Table:
    """Return the figures over all instruments, a row per protocol, baseline and published work."""
    from irmas_dist.evaluation.baselines import protocol_of
    from irmas_dist.evaluation.published import figures_of

    metrics = figures_of(evaluation.scores.vocabulary)
    grid = Table(
        Column("", overflow="fold"),
        Column("protocol", no_wrap=True),
        *(Column(HEADINGS[metric], no_wrap=True) for metric in metrics),
    )
    for protocol, result in evaluation.results.items():
        grid.add_row("[bold]these scores", protocol, *(with_interval(result, m) for m in metrics))
    grid.add_section()
    for name, values in evaluation.baselines.items():
        grid.add_row(name, protocol_of(name), *(figure(values.get(metric)) for metric in metrics))
    grid.add_section()
    for work in works:
        figures = (figure(getattr(work, metric)) for metric in metrics)
        grid.add_row(work.work, work.decided, *figures)
    return grid


def _protocols(evaluation: "Evaluation") -> Iterator[str]:
    """Yield what each protocol means."""
    from irmas_dist.evaluation.protocols import CHOSEN_BEFORE, FITTED, MEANING

    for protocol in evaluation.results:
        chosen = f": {evaluation.thresholds_from}" if protocol in CHOSEN_BEFORE else ""
        fitted = f" ({evaluation.settings.summary})" if protocol in FITTED else ""
        yield f"{protocol}: {MEANING[protocol]}{chosen}{fitted}"


def _clips(evaluation: "Evaluation") -> str:
    """Return how many clips of how many songs there are, and what intervals are over."""
    from irmas_dist.evaluation.bootstrap import FEW_SONGS
    from irmas_dist.evaluation.published import groups_of

    groups = groups_of(evaluation.scores.vocabulary)
    number = len(set(evaluation.scores.groups))
    songs = f"{number:,} {groups if number > 1 else groups.removesuffix('s')}"
    few = " (too narrow with so few)" if number < FEW_SONGS else ""
    spans = f"; below figures 95 % intervals over {groups}{few}" if number > 1 else ""
    return f"{len(evaluation.scores.clip_ids):,} clips of {songs}{spans}"
