"""Tables of results, and one JSON object for programs."""

import json
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from irmas_dist.terminal import escape, show, write

if TYPE_CHECKING:
    from irmas_dist.config.recipe import Recipe
    from irmas_dist.evaluation.protocols import Result
    from irmas_dist.search.study import TrialRow

WIDEST = 8
"""Characters of a value in a table with a column for each of five trials."""

HEADINGS = {
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "micro_precision": "micro precision",
    "micro_recall": "micro recall",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "lrap": "LRAP",
    "map": "mAP",
}
"""Metrics in tables, in order, and their headings."""


def as_json(value: Any) -> None:
    """Write one JSON object on standard output."""
    write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def show_recipe(value: "Recipe", json_output: bool) -> None:
    """Show a resolved recipe, and how large its network is."""
    from irmas_dist.config.yaml_files import dump_yaml
    from irmas_dist.models.cnn import CNN, parameter_count

    frames = value.window.frames(value.features)
    network = CNN(value.model, value.features.bands, frames, len(value.corpus.vocabulary))
    settings = value.model_dump(mode="json")
    if json_output:
        as_json({"recipe": settings, "parameters": parameter_count(network)})
        return
    write(dump_yaml(settings))
    write(f"# {parameter_count(network):,} parameters\n")


def trial_tables(
    trials: Sequence["TrialRow"],
    others: Sequence["TrialRow"] = (),
    importances: Mapping[str, float] | None = None,
    against: str | None = None,
) -> Group:
    """Return how each trial ended, and below it the settings of the trials side by side.

    A setting with a value too wide for a column of its trial has a row per value instead, with
    the trials that have it, so that 80 columns hold all values of five trials.

    Args:
        trials: The best trials, five at most.
        others: The other trials, summed up by the median or the most frequent value.
        importances: Share of each setting; the most important settings come first.
        against: Heading of the second objective; None without one.
    """
    from irmas_dist.search.entries import short

    shares = importances or {}
    rest = [trial for trial in others if trial["value"] is not None]
    outcomes = _table("trial", "state", "macro F1", *([against] if against else []), "epochs")
    for trial in trials:
        second = [short(trial["second"])] if against else []
        number, epochs = str(trial["number"]), str(trial["epochs"])
        outcomes.add_row(number, trial["state"], figure(trial["value"]), *second, epochs)
    if rest:
        keys: list[Literal["state", "value", "second", "epochs"]] = ["state", "value", "epochs"]
        if against:
            keys.insert(2, "second")
        outcomes.add_row("rest", *(_typical([trial[key] for trial in rest]) for key in keys))

    columns = [str(trial["number"]) for trial in trials] + (["rest"] if rest else [])
    side_by_side = _table("setting", *columns, *(["share"] if shares else []), gap=1)
    by_value = _table("setting", "value", "trials", *(["share"] if shares else []))
    names = sorted({name for trial in trials for name in trial["params"]})
    names.sort(key=lambda name: -shares.get(name, 0.0))
    labels = short_names(names)
    for name in names:
        cells = [short(t["params"][name]) if name in t["params"] else "" for t in trials]
        if rest:
            cells.append(_typical([t["params"][name] for t in rest if name in t["params"]]))
        share = [f"{100 * shares[name]:.0f} %" if name in shares else ""] if shares else []
        if max(map(len, cells)) <= WIDEST:
            side_by_side.add_row(labels[name], *map(Text, cells), *share)
            continue
        label = labels[name]
        for value in dict.fromkeys(filter(None, cells)):
            having = (column for column, cell in zip(columns, cells, strict=True) if cell == value)
            by_value.add_row(label, Text(value), " ".join(having), *share)
            label, share = "", []
    parts: list[Table | str] = []
    for table in (outcomes, side_by_side, by_value):
        parts += [table, ""] if table.row_count else []
    if names:
        importance = "; share: a setting's importance for macro F1" * bool(shares)
        parts.insert(2, f"settings of each trial{importance}:")
    return Group(*parts)


def _table(*headings: str, gap: int = 3) -> Table:
    """Return a table without lines between columns, which are as wide as their values."""
    columns = (Column(heading, no_wrap=True) for heading in headings)
    padding = (0, gap - 1, 0, 0)
    return Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return each setting's name, without its group where that is unambiguous."""
    ends = [name.partition(".")[2] for name in names]
    return {
        name: end if end and ends.count(end) == 1 else name
        for name, end in zip(names, ends, strict=True)
    }


def _typical(values: Sequence[Any]) -> str:
    """Return the median of numbers, or the most frequent of other values; empty for none."""
    from irmas_dist.search.entries import short

    if not values:
        return ""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return short(median(values))
    texts = [short(value) for value in values]
    return max(texts, key=texts.count)


def show_path(path: str, json_output: bool) -> None:
    """Show where a page was written."""
    if json_output:
        as_json({"path": path})
    else:
        show(path)


def show_notes(notes: Mapping[str, str], tell: Callable[[str], None] = show) -> None:
    """Tell what is unusual of usable files, by name: of each kind the first five."""
    for note in dict.fromkeys(notes.values()):
        names = [name for name, text in notes.items() if text == note]
        for name in names[:5]:
            tell(f"{name}: {note}")
        if len(names) > 5:
            tell(f"… and {len(names) - 5:,} more: {note}")


def with_interval(result: "Result", key: str) -> str:
    """Return a figure, and below it its interval if there is one."""
    span = result.intervals.get(key)
    return figure(result.metrics[key]) + (f"\n{_span(*span)}" if span else "")


def _span(low: float, high: float, digits: int = 3) -> str:
    """Return an interval from 0 to 1 in few characters: ``.425-.488``."""
    return "-".join(f"{value:.{digits}f}".removeprefix("0") for value in (low, high))


def figure(value: float | None) -> str:
    """Return a figure to three digits, and an empty string for none."""
    return "" if value is None else f"{value:.3f}"


def threshold_cell(value: float | None) -> str:
    """Return a threshold to three digits; None stands for one that differs from fold to fold."""
    return "by fold" if value is None else "never" if value > 1 else f"{value:.3f}"


def instrument_table(
    instruments: Sequence[Mapping[str, Any]], protocol: str, partly_known: bool
) -> Table:
    """Return a row per instrument: clips, precision, recall, F1, its interval, AP, threshold.

    Args:
        instruments: As from `protocols.Result.rows_by_instrument`.
        protocol: How the thresholds were chosen.
        partly_known: Whether the number of clips in which each is known is shown too.
    """
    headings = ("clips", "prec.", "rec.", "F1", "95 %", "AP", "thresh.")
    grid = Table(
        Column("instrument", overflow="fold"),
        *(Column(heading, no_wrap=True) for heading in headings),
        title=f"protocol: {protocol}" + "; clips: of those in which it is known" * partly_known,
        title_justify="left",
    )
    for row in instruments:
        clips = f"{row['clips']} of {row['known']}" if partly_known else str(row["clips"])
        threshold = threshold_cell(row["threshold"])
        if not row["known"]:
            grid.add_row(escape(row["name"]), clips, *[""] * 5, threshold)
            continue
        values = (figure(row[key]) for key in ("precision", "recall", "f1"))
        low, high = row["f1_low"], row["f1_high"]
        span = "" if low is None else _span(low, high, digits=2)
        grid.add_row(escape(row["name"]), clips, *values, span, figure(row["ap"]), threshold)
    return grid


def metric_table(results: Mapping[str, Mapping[str, float]]) -> Table:
    """Return a column per model or baseline, and a row per metric that all have."""
    grid = Table("", *results)
    for key, heading in HEADINGS.items():
        if all(key in values for values in results.values()):
            grid.add_row(heading, *(figure(values[key]) for values in results.values()))
    return grid
