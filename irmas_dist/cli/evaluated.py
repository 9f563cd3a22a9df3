"""How the figures of an evaluation are shown."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Column, Table

from irmas_dist.cli.tables import HEADINGS, as_json, figure, instrument_table, with_interval
from irmas_dist.terminal import show

if TYPE_CHECKING:
    from irmas_dist.evaluation.evaluate import Evaluation


def show_evaluation(evaluation: "Evaluation", json_output: bool) -> None:
    """Show figures by instrument and by protocol, beside baselines and published results."""
    from irmas_dist.evaluation.baselines import protocol_of
    from irmas_dist.evaluation.bootstrap import FEW_SONGS
    from irmas_dist.evaluation.protocols import CHOSEN_BEFORE, FITTED, MEANING
    from irmas_dist.evaluation.published import benchmark_of, figures_of, groups_of

    benchmark = benchmark_of(evaluation.scores.vocabulary)
    works = benchmark.works if benchmark else ()

    if json_output:
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
        })  # fmt: skip
        return
    protocol = evaluation.headline.protocol
    show(instrument_table(evaluation.instruments, protocol, evaluation.partly_known))
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
    show(grid)
    for protocol in evaluation.results:
        chosen = f": {evaluation.thresholds_from}" if protocol in CHOSEN_BEFORE else ""
        fitted = f" ({evaluation.settings.summary})" if protocol in FITTED else ""
        show(f"{protocol}: {MEANING[protocol]}{chosen}{fitted}")
    if benchmark:
        clips = f"{benchmark.name}'s {benchmark.clips:,} test clips"
        show(f"published: on {clips}; not comparable on others; sources with --json")
    for note in evaluation.notes:
        show(note)
    groups = groups_of(evaluation.scores.vocabulary)
    number = len(set(evaluation.scores.groups))
    songs = f"{number:,} {groups if number > 1 else groups.removesuffix('s')}"
    clips = f"{len(evaluation.scores.clip_ids):,} clips of {songs}"
    few = " (too narrow with so few)" if number < FEW_SONGS else ""
    spans = f"; below figures 95 % intervals over {groups}{few}" if number > 1 else ""
    show(f"{clips}{spans}; scores: {evaluation.path}")
