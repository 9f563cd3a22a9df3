"""The summary run of a sweep in Weights & Biases."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from irmas_dist.reports.sweep_charts import parallel_coordinates_page
from irmas_dist.reports.wandb_view import try_to_save
from irmas_dist.search.study import INTERRUPTED, STATES, best_row
from irmas_dist.search.sweep import SweepSummary
from irmas_dist.search.sweep_directory import read_record
from irmas_dist.tracking.outcome import afterwards
from irmas_dist.tracking.start import start_run


def log_summary(summary: SweepSummary) -> None:
    """Log a finished sweep as one W&B run."""
    record = read_record(Path(summary.path))
    recipe, space = record.load(summary.path)
    name, data, trials = record.name, record.data.facts(), summary.trials
    run = start_run(
        recipe.tracking,
        name=name,
        job_type="sweep",
        group=record.group,
        run_id=record.identity,
        tags=["sweep", "summary"],
        config=record.recipe,
    )
    run.uses_features(record.data.fingerprints())
    searched = sorted({key for trial in trials for key in trial["params"]})
    facts = ["number", "state", "value", "epochs", "seconds", "parameters", "reason"]
    run.table(
        "leaderboard",
        facts + searched,
        [
            [dict(trial)[fact] for fact in facts]
            + [_cell([t["params"].get(key) for t in trials], trial["params"].get(key))
               for key in searched]
            for trial in trials
        ],
    )  # fmt: skip
    run.table(
        "importances", ["setting", "importance"], [list(i) for i in summary.importances.items()]
    )
    best, history = None, []
    for trial in sorted(trials, key=lambda trial: trial["number"]):
        if trial["value"] is not None:
            if trial["state"] == "completed":
                best = max(best or 0.0, trial["value"])
            history.append([trial["number"], trial["value"], best])
    run.table("history", ["number", "macro_f1", "best_macro_f1"], history)
    run.page(
        "parallel coordinates",
        partial(parallel_coordinates_page, trials, space, summary.importances),
    )
    states = [trial["state"] for trial in trials]
    top = best_row(trials)
    # All that an earlier part of the run may have is replaced.
    values: dict[str, Any] = {
        f"trials_{state}": states.count(state) for state in (*STATES.values(), INTERRUPTED)
    }
    if top is not None:
        values |= {"best_macro_f1": top["value"], "best_trial": top["number"]}
        values |= {f"best/{key}": top["params"].get(key) for key in space.entries}
    run.summarise(values)
    if summary.model is not None and top is not None:
        made = {"macro_f1": top["value"], "trial": top["number"], **data}
        run.made_model(name, summary.model, made)
    run.close()
    if run.mode == "online":
        afterwards.append(partial(try_to_save, Path(summary.path)))


def _cell(column: Sequence[Any], value: Any) -> Any:
    """Return a value for W&B, which takes columns of one type only."""
    kinds = {type(other) for other in column if other is not None}
    uniform = kinds <= {int, float} or kinds in ({str}, {bool})
    return value if value is None or uniform else str(value)
