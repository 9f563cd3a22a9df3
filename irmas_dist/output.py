"""How results look: tables for people, one JSON object for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.markup import escape
from rich.table import Column, Table

from irmas_dist.errors import IrmasError
from irmas_dist.instruments import Vocabulary
from irmas_dist.terminal import show, write

if TYPE_CHECKING:
    from irmas_dist.config import Recipe
    from irmas_dist.corpus.download import DownloadSummary
    from irmas_dist.corpus.render import RenderSummary
    from irmas_dist.corpus.summary import IndexSummary
    from irmas_dist.features.extract import ExtractSummary
    from irmas_dist.inference.predictor import Predictor
    from irmas_dist.jobs import Job
    from irmas_dist.search.sweep import SweepSummary
    from irmas_dist.training.checkpoint import ModelDescription


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
    """Show the trials of a sweep, the best first."""
    if machine:
        as_json({"path": summary.path, "trials": summary.trials, "seconds": summary.seconds})
        return
    show(trial_table(summary.trials[:5]))
    show(escape(f"best recipe: {Path(summary.path, 'best.yaml')}"))


def trial_table(trials: Sequence[Mapping[str, Any]]) -> Table:
    """One column per trial, with how it ended and the values that were drawn for it."""
    grid = Table(Column("trial", no_wrap=True), *(str(trial["number"]) for trial in trials))
    grid.add_row("state", *(trial["state"] for trial in trials))
    values = (trial["value"] for trial in trials)
    grid.add_row("macro F1", *("" if value is None else f"{value:.3f}" for value in values))
    grid.add_row("epochs", *(str(trial["epochs"]) for trial in trials), end_section=True)
    for name in sorted({name for trial in trials for name in trial["params"]}):
        drawn = (trial["params"].get(name, "") for trial in trials)
        grid.add_row(name, *(f"{v:.3g}" if isinstance(v, float) else str(v) for v in drawn))
    return grid


def thresholds(description: "ModelDescription", machine: bool) -> None:
    """Show a model's thresholds and what they were fitted to."""
    if machine:
        as_json({
            "thresholds": description.thresholds,
            "thresholds_from": description.thresholds_from,
            "validation": description.scores,
        })  # fmt: skip
        return
    grid = Table("instrument", "threshold")
    for code, value in description.thresholds.items():
        grid.add_row(description.instruments[code], f"{value:.3f}")
    show(grid)
    macro_f1 = description.scores["val_macro_f1"]
    show(f"fitted on {description.thresholds_from}; macro F1 there {macro_f1:.3f}")


def predicted(predictor: "Predictor", files: Sequence[Path], machine: bool) -> bool:
    """Score files one by one and show what plays in each; True when one could not be used."""
    results: list[dict[str, Any]] = []
    for file in files:
        try:
            scores = predictor.file(file)
            result = {"file": str(file), "instruments": predictor.decide(scores), "scores": scores}
        except IrmasError as error:
            result = {"file": str(file), "error": str(error)}
        results.append(result)
        if not machine:
            show(escape(_prediction_line(predictor, result)))
    if machine:
        as_json({"predictions": results})
    return any("error" in result for result in results)


def _prediction_line(predictor: "Predictor", result: Mapping[str, Any]) -> str:
    if "error" in result:
        return f"{result['file']}: {result['error']}"
    names = predictor.description.instruments
    scores = result["scores"]
    heard = sorted(result["instruments"], key=lambda code: -scores[code])
    said = ", ".join(f"{names[code]} {scores[code]:.2f}" for code in heard)
    if said:
        return f"{result['file']}: {said}"
    likeliest = max(scores, key=lambda code: scores[code])
    return (
        f"{result['file']}: none above its threshold; "
        f"likeliest {names[likeliest]} {scores[likeliest]:.2f}"
    )


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
