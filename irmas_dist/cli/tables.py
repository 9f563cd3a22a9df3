"""How results look: tables for people, one JSON object for programs."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Column, Table

from irmas_dist.terminal import show, write

if TYPE_CHECKING:
    from irmas_dist.evaluation.protocols import Result

if TYPE_CHECKING:
    from irmas_dist.config.recipe import Recipe

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


def as_json(value: Any) -> None:
    """Write one JSON object on standard output."""
    write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def show_recipe(value: "Recipe", machine: bool) -> None:
    """Show a resolved recipe, and how large its network is."""
    from irmas_dist.config.yaml_files import dump_yaml
    from irmas_dist.models.cnn import CNN, parameter_count

    frames = value.window.frames(value.features)
    network = CNN(value.model, value.features.bands, frames, len(value.corpus.vocabulary))
    settings = value.model_dump(mode="json")
    if machine:
        as_json({"recipe": settings, "parameters": parameter_count(network)})
        return
    write(dump_yaml(settings))
    write(f"# {parameter_count(network):,} parameters\n")


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
        cells = [cell(key(trial)) for trial in trials]
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


def cell(value: Any) -> str:
    """Write a value of a recipe in few letters."""
    if value is _UNUSED:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    return f"{value:.3g}" if isinstance(value, float) else "none" if value is None else str(value)


def _typical(values: Sequence[Any]) -> str:
    """Return the median of numbers, and the most frequent of anything else."""
    used = [value for value in values if value is not _UNUSED]
    if not used:
        return ""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in used):
        return cell(float(median(used)))
    texts = [cell(value) for value in used]
    return max(texts, key=texts.count)


def show_path(path: str, machine: bool) -> None:
    """Show where a page was written."""
    if machine:
        as_json({"path": path})
    else:
        show(escape(path))


def with_interval(result: "Result", key: str) -> str:
    """Write a figure, and below it its interval."""
    return f"{result.metrics[key]:.3f}\n{_span(*result.intervals[key])}"


def _span(low: float, high: float) -> str:
    """Write an interval from 0 to 1 in few letters: ``.425-.488``."""
    return "-".join(f"{value:.3f}".removeprefix("0") for value in (low, high))


def figure(value: float | None) -> str:
    """Write a figure to three digits; nothing where there is none."""
    return "" if value is None else f"{value:.3f}"


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
