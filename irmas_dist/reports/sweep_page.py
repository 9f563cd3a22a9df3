"""The page of a sweep: one self-contained HTML file."""

import os
from pathlib import Path
from typing import Any

from irmas_dist import storage
from irmas_dist.config.yaml_files import dump_yaml
from irmas_dist.reports import sweep_charts
from irmas_dist.reports.templates import render_template
from irmas_dist.search.entries import short
from irmas_dist.search.next_space import Advice, advise, narrowed
from irmas_dist.search.space import Space
from irmas_dist.search.storages import open_study
from irmas_dist.search.study import best_row, importances, list_trials
from irmas_dist.search.sweep_directory import read_record, study_location
from irmas_dist.search.trial import SECOND_TITLES
from irmas_dist.storage.locks import is_locked
from irmas_dist.training.validation_rule import validated_on

LEADERS = 8
"""Number of trials in the table of the best."""


def write_sweep_page(path: Path, location: str | os.PathLike[str]) -> None:
    """Write the page of a sweep: the best trials, importances, and the space to search next.

    Args:
        path: Sweep directory; the sweep may still run.
        location: Path or URL of the page.

    Raises:
        IrmasError: There is no sweep, its study cannot be opened, or the page not be written.
    """
    record = read_record(path)
    recipe, space = record.load(str(path))
    study = open_study(study_location(path, record), record.name)
    rows = list_trials(study, space, live=is_locked(path))
    shares = importances(study)
    states = [row["state"] for row in rows]
    valued = [row for row in rows if row["value"] is not None]
    advice = advise(rows, space, shares)
    best = best_row(rows)
    page = render_template(
        "sweep_page.html",
        short=short,
        name=record.name,
        settings=record.settings,
        epochs=recipe.training.epochs,
        judged_by=validated_on(recipe.model_dump(), record.data),
        against=SECOND_TITLES.get(record.settings.against or ""),
        states={state: states.count(state) for state in dict.fromkeys(states)},
        seconds=sum(row["seconds"] or 0.0 for row in rows),
        best=best,
        leaders=valued[:LEADERS],
        searched=list(space.entries),
        failures=[row for row in rows if row["state"] == "failed"],
        shares=shares,
        parallel=sweep_charts.parallel_coordinates(rows, space, shares),
        history=sweep_charts.history_plot(rows),
        curves=sweep_charts.learning_curves(rows),
        slices={name: sweep_charts.slice_plot(rows, space, name)
                for name in sweep_charts.by_importance(space, shares)},
        instruments=best["instruments"] if best else None,
        advice=advice,
        next_space=_next_space(space, advice),
    )  # fmt: skip
    with storage.write_atomically(location) as stream:
        stream.write(page.encode())


def _next_space(space: Space, advice: list[Advice]) -> str:
    """Return the space to search next as YAML, with settings to fix as comments."""

    def line(value: Any) -> str:
        return dump_yaml(value, flow=True).split("\n...")[0].strip()

    fixed = [f"# --set {item.name}={line(item.value)}" for item in advice if item.entry is None]
    entries = narrowed(space, advice).content().items()
    return "\n".join([*fixed, *(f"{name}: {line(entry)}" for name, entry in entries)])
