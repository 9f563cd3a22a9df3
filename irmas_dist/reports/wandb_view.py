"""The saved view of a sweep in Weights & Biases: a workspace of the project, by its public API.

It needs nothing but the sweep's record, so that it can be made at the end of a sweep, and as well
when its runs are uploaded later.
"""

import re
import unicodedata
from pathlib import Path
from typing import Any

from irmas_dist import storage
from irmas_dist.search.sweep_directory import SweepRecord, read_record
from irmas_dist.terminal import say
from irmas_dist.tracking.server import default_entity, reason
from irmas_dist.training.learner import SELECTED_BY

VIEW = "wandb-view.json"
"""File in the sweep directory that says where the view is."""

TOP_TRIALS = 10
"""Trials whose curves are shown."""

CURVES = (SELECTED_BY, "val_loss", "train_loss")


def save_view(record: SweepRecord, out: Path) -> str:
    """Save the view of a sweep, once; return its address.

    It shows the sweep's runs, the best first, in a table; parallel coordinates of what is searched;
    importances; and the curves of the best trials.

    Raises:
        Exception: The server refuses it or does not answer; W&B raises many types.
    """
    made = out / VIEW
    if made.exists():
        return str(storage.read_json(made)["url"])
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    tracking = record.tracking
    best = workspaces.Summary(SELECTED_BY)
    columns: list[Any] = [
        *(panels.Config(name) for name in sorted(record.space)),
        panels.SummaryMetric(SELECTED_BY),
    ]
    search = workspaces.Section(
        name="Search",
        is_open=True,
        panels=[
            panels.ParallelCoordinatesPlot(
                columns=[panels.ParallelCoordinatesPlotColumn(metric=one) for one in columns],
                layout=panels.Layout(w=24, h=9),
            ),
            panels.ParameterImportancePlot(
                with_respect_to=SELECTED_BY, layout=panels.Layout(y=9, w=24, h=6)
            ),
        ],
    )
    curves = workspaces.Section(
        name=f"Curves of the best {TOP_TRIALS} trials",
        is_open=True,
        panels=[
            panels.LinePlot(x="epoch", y=[metric], max_runs_to_show=TOP_TRIALS) for metric in CURVES
        ],
    )
    view = workspaces.Workspace(
        entity=tracking.entity or default_entity(tracking.timeout_s),
        project=tracking.project,
        name=f"Sweep {without_symbols(record.name)}",
        sections=[search, curves],
        settings=workspaces.WorkspaceSettings(x_axis="epoch", max_runs=TOP_TRIALS),
        runset_settings=workspaces.RunsetSettings(
            filters=f"Metric('Group') == {quoted(record.group)}",
            order=[workspaces.Ordering(best, ascending=False)],
        ),
        auto_generate_panels=False,
    )
    view.save()
    storage.write_json(made, {"url": view.url})
    return str(view.url)


def without_symbols(name: str) -> str:
    """Return a name without the signs that W&B does not take in the name of a view."""
    signs = ("So", "Sk", "Sm", "Sc", "Cs")
    return "".join("-" if unicodedata.category(sign) in signs else sign for sign in name)


def quoted(text: str) -> str:
    """Return a text as the parser of filters takes it, which reads Python but changes its signs."""
    return re.sub("[<>=!]", lambda sign: f"\\x{ord(sign[0]):02x}", repr(text))


def try_to_save(out: Path) -> str | None:
    """Save the view of the sweep in a directory; return its address, or None with a message."""
    try:
        return save_view(read_record(out), out)
    except Exception as error:  # noqa: BLE001 - W&B raises many types, some of them private
        say(f"W&B: the sweep's view is not saved ({reason(str(error) or repr(error))})")
        return None
