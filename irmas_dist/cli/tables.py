"""How results look: tables for people, one JSON object for programs."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import yaml
from rich.markup import escape
from rich.table import Column, Table

from irmas_dist.instruments import Vocabulary
from irmas_dist.terminal import show, write

if TYPE_CHECKING:
    from irmas_dist.cluster.jobs import Job
    from irmas_dist.config.recipe import Recipe
    from irmas_dist.corpus.download import DownloadSummary
    from irmas_dist.corpus.summary import IndexSummary
    from irmas_dist.features.extract import ExtractSummary
    from irmas_dist.inference.thresholds import Candidate
    from irmas_dist.rendering.render import RenderSummary
    from irmas_dist.search.sweep import SweepSummary
    from irmas_dist.training.model_directory import ModelDescription


def as_json(value: Any) -> None:
    """Write one JSON object on standard output."""
    write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def recipe(value: "Recipe", machine: bool) -> None:
    """Show a resolved recipe, and how large its network is."""
    from irmas_dist.models.cnn import CNN, parameter_count

    frames = value.window.frames(value.features)
    network = CNN(value.model, value.features.bands, frames, len(value.corpus.vocabulary))
    settings = value.model_dump(mode="json")
    if machine:
        as_json({"recipe": settings, "parameters": parameter_count(network)})
        return
    write(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    write(f"# {parameter_count(network):,} parameters\n")


def rendered(summary: "RenderSummary", machine: bool) -> None:
    """Show what was rendered."""
    if machine:
        as_json(asdict(summary))
        return
    if summary.kept_files:
        show(f"there already: {summary.kept_files:,} files")
    show(
        f"{summary.training_files:,} training clips and {summary.testing_files:,} test excerpts, "
        f"{summary.audio_s / 60:,.0f} minutes, {summary.bytes / 1e6:,.0f} MB in "
        f"{escape(str(summary.path))}"
    )


def downloaded(summary: "DownloadSummary", machine: bool) -> None:
    """Show what was fetched, and what was there already."""
    if machine:
        as_json(asdict(summary))
        return
    if not summary.extracted_files:
        show(escape(f"everything is there already: {summary.path}"))
        return
    if summary.skipped_archives:
        show(escape(f"there already: {', '.join(summary.skipped_archives)}"))
    show(
        escape(
            f"{summary.fetched_bytes / 1e6:,.1f} MB fetched, "
            f"{summary.extracted_files:,} files extracted: {summary.path}"
        )
    )


def indexed(summary: "IndexSummary", path: str, vocabulary: Vocabulary, machine: bool) -> None:
    """Show how many clips and hours there are of each instrument, and what is wrong."""
    if machine:
        as_json({"path": path} | asdict(summary))
        return
    grid = Table(Column("instrument", no_wrap=True), *(f"{part} {what}" for part in summary.groups
                                 for what in ("clips", "hours")))  # fmt: skip
    for code, clips in summary.per_instrument.items():
        hours = summary.hours_per_instrument[code]
        cells = [text for part in clips for text in (f"{clips[part]:,}", f"{hours[part]:.2f}")]
        grid.add_row(vocabulary.name(code), *cells)
    show(grid)
    for kind, count in summary.problem_kinds.items():
        show(escape(f"unusable, {count:,}: {kind}"))
    _first("unusable", [f"{clip}: {why}" for clip, why in summary.problems.items()], "problem")
    _first("same audio, different labels", [
        "; ".join(f"{clip} ({', '.join(codes)})" for clip, codes in conflict.clips.items())
        for conflict in summary.conflicts
    ], "md5")  # fmt: skip
    _first("in training and in testing", summary.in_both_parts, "group")
    groups = " and ".join(f"{count:,} of {part}" for part, count in summary.groups.items())
    show(
        escape(
            f"{summary.clips:,} clips, {summary.hours:.2f} hours, groups: {groups}; "
            f"{len(summary.problems):,} unusable, {len(summary.conflicts):,} with identical audio "
            f"and different labels: {path}"
        )
    )


def _first(heading: str, lines: Sequence[str], column: str, at_most: int = 5) -> None:
    """Show the first of many lines, and where in the manifest the rest can be found."""
    for line in lines[:at_most]:
        show(escape(f"{heading}: {line}"))
    if len(lines) > at_most:
        more = len(lines) - at_most
        show(f"{heading}: … and {more:,} more; see the manifest's column '{column}'")


def extracted(summary: "ExtractSummary", machine: bool) -> None:
    """Show what an extraction did."""
    if machine:
        as_json(asdict(summary) | {"realtime_factor": summary.realtime_factor})
        return
    for reason, count in list(summary.rejects.items())[:5]:
        show(escape(f"rejected, {count:,}: {reason}"))
    if summary.rejects:
        show(escape(f"{sum(summary.rejects.values()):,} rejected: {summary.path}/rejects.parquet"))
    if summary.rewritten:
        show(f"{summary.rewritten:,} shards brought in line with the manifest")
    if summary.computed:
        show(
            f"{summary.computed:,} clips computed, {summary.hours:.2f} hours of audio at "
            f"{summary.realtime_factor:,.0f} times real time, {summary.bytes / 1e6:,.1f} MB written"
        )
    show(escape(f"{summary.clips:,} clips, {summary.seconds:.1f} s: {summary.path}"))


def trained(description: "ModelDescription", path: str, machine: bool) -> None:
    """Show what a training came to."""
    result = {
        "path": path,
        "parameters": description.parameters,
        "epochs": len(description.history),
        "best_epoch": description.best_epoch,
        "validation": description.scores,
    }
    if machine:
        as_json(result)
        return
    scores = description.scores
    show(
        f"best epoch {description.best_epoch} of {len(description.history)}: on validation "
        f"mixtures micro F1 {scores['val_micro_f1']:.3f}, macro F1 {scores['val_macro_f1']:.3f}; "
        f"{description.parameters:,} parameters in {escape(path)}"
    )


def swept(summary: "SweepSummary", machine: bool) -> None:
    """Show the best five trials of a sweep, what set them apart, and what became of the rest."""
    if machine:
        as_json({
            "path": summary.path,
            "trials": summary.trials,
            "importances": summary.importances,
            "best": {"recipe": str(Path(summary.path, "best.yaml")), "model": summary.model},
            "seconds": summary.seconds,
        })  # fmt: skip
        return
    show(trial_table(summary.trials[:5], summary.trials[5:], summary.importances))
    reasons = [trial["reason"] for trial in summary.trials if trial["state"] == "failed"]
    for reason in dict.fromkeys(reasons):
        show(escape(f"failed, {reasons.count(reason)}: {reason or 'its driver died'}"))
    show(escape(f"best recipe: {Path(summary.path, 'best.yaml')}"))
    if summary.model:
        show(escape(f"best model: {summary.model}"))
    show(escape(f"more: irmas report {summary.path}, irmas review {summary.path}"))


def trial_table(
    trials: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]] = (),
    importances: Mapping[str, float] | None = None,
) -> Table:
    """One column per trial, with how it ended and the values that were drawn for it.

    Args:
        trials: The best ones.
        others: The rest, of which a column shows the median or the most frequent value.
        importances: Share of each setting; the most important ones come first.
    """
    shares = importances or {}
    rest = [trial for trial in others if trial["value"] is not None]
    headings = [str(trial["number"]) for trial in trials]
    headings += [*(["the rest"] if rest else []), *(["matters"] if shares else [])]
    grid = Table(Column("trial", no_wrap=True), *headings)

    def add(name: str, key: Callable[[Mapping[str, Any]], Any], **options: Any) -> None:
        cells = [_drawn(key(trial)) for trial in trials]
        if rest:
            cells.append(_typical([key(trial) for trial in rest]))
        if shares:
            cells.append(f"{100 * shares[name]:.0f} %" if name in shares else "")
        grid.add_row(name, *cells, **options)

    add("state", lambda trial: trial["state"])
    add("macro F1", lambda trial: trial["value"])
    if any(trial.get("second") is not None for trial in trials):
        add("against", lambda trial: trial["second"])
    add("epochs", lambda trial: trial["epochs"], end_section=True)
    names = sorted({name for trial in trials for name in trial["params"]})
    for name in sorted(names, key=lambda name: -shares.get(name, 0.0)):
        add(name, partial(_value_of, name))
    return grid


_UNUSED = object()


def _value_of(name: str, trial: Mapping[str, Any]) -> Any:
    return trial["params"].get(name, _UNUSED)


def _drawn(value: Any) -> str:
    if value is _UNUSED:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(_drawn(item) for item in value)
    return f"{value:.3g}" if isinstance(value, float) else "none" if value is None else str(value)


def _typical(values: Sequence[Any]) -> str:
    """Return the median of numbers, and the most frequent of anything else."""
    used = [value for value in values if value is not _UNUSED]
    if not used:
        return ""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in used):
        return _drawn(float(median(used)))
    texts = [_drawn(value) for value in used]
    return max(texts, key=texts.count)


def synced(runs: Sequence[str], machine: bool) -> None:
    """Show which runs were uploaded."""
    if machine:
        as_json({"synced": list(runs)})
        return
    show(f"{len(runs)} runs uploaded")


def thresholds(
    description: "ModelDescription",
    candidates: Sequence["Candidate"],
    objective: str,
    machine: bool,
) -> None:
    """Show a model's thresholds, what they were fitted to, and what they are worth elsewhere."""
    compared = [
        {
            "aggregation": candidate.windows.aggregation,
            "hop_frames": candidate.windows.hop_frames,
            "fitted": candidate.fitted,
            "cross_validated": None
            if math.isnan(candidate.cross_validated)
            else candidate.cross_validated,
        }
        for candidate in candidates
    ]
    if machine:
        as_json({
            "thresholds": description.thresholds,
            "thresholds_from": description.thresholds_from,
            "objective": objective,
            "compared": compared,
            "validation": description.scores,
        })  # fmt: skip
        return
    grid = Table("instrument", "threshold")
    for code, value in description.thresholds.items():
        grid.add_row(description.instruments[code], f"{value:.3f}")
    show(grid)
    ways = Table("aggregation", "hop in frames", f"{objective} fitted", "cross-validated")
    for row in compared:
        ways.add_row(*(_drawn(value) for value in row.values()))
    show(ways)
    show(f"fitted on {description.thresholds_from}; the first way is the model's now")


def written(path: str, machine: bool) -> None:
    """Show where a page was written."""
    if machine:
        as_json({"path": path})
    else:
        show(escape(path))


def job_list(found: Sequence["Job"], machine: bool) -> None:
    """Show jobs."""
    if machine:
        as_json({"jobs": [asdict(job) for job in found]})
        return
    grid = Table(Column("job", no_wrap=True), "status", "started", "ended", "command")
    for job in found:
        times = (f"{when:%Y-%m-%d %H:%M:%S}" if when else "" for when in (job.started, job.ended))
        grid.add_row(job.submission_id, job.status.value.lower(), *times, escape(job.entrypoint))
    show(grid)
