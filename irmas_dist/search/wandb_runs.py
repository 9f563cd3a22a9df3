"""The W&B runs of a sweep: one per trial, and one that sums it up.

Runs are opened and written in a thread of their own, so that a slow network holds up no trial.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from irmas_dist import tracking
from irmas_dist.config.recipe import Recipe
from irmas_dist.search.study import best_row

Facts = Mapping[str, Any]
"""Values by name."""


class TrialRuns:
    """One run per trial, from its start to its end.

    Args:
        recipe: The sweep's recipe, which a trial's values change.
        name: The sweep's name: the group of its runs.
        identity: The sweep's identity, with which a trial's run is found again.
    """

    def __init__(self, recipe: Recipe, name: str, identity: str) -> None:
        self._recipe, self._name, self._identity = recipe, name, identity
        self._open: dict[int, tracking.Run] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wandb")
        self._submitted: list[Future[None]] = []
        self._tracking = recipe.tracking

    def start(self, number: int, values: Mapping[str, Any]) -> None:
        """Open a trial's run, or go on with it: after a pause, or after it was cut short."""

        def work() -> None:
            if number in self._open:
                self._open[number].configure(values)
            else:
                self._open[number] = run = tracking.start_run(
                    self._tracking,
                    name=f"{self._name}-{number:03d}",
                    job_type="trial",
                    group=self._name,
                    run_id=f"{self._identity}-{number:04d}",
                    tags=["sweep"],
                    config={**tracking.flatten(self._recipe.model_dump(mode="json")), **values},
                    requirements=False,
                )
                # Where W&B did not answer once, not every trial is to wait for it again.
                self._tracking = self._tracking.model_copy(update={"mode": run.mode})

        self._do(work)

    def log(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch of a trial."""
        self._do(lambda: self._open[number].log(metrics))

    def end(self, number: int, state: str, facts: Facts, instruments: Sequence[Facts]) -> None:
        """Close a trial's run.

        Args:
            number: The trial.
            state: completed, pruned or failed.
            facts: For the run's summary.
            instruments: Rows of the per-instrument table.
        """
        self._do(lambda: self._end(number, state, facts, instruments))

    def close(self) -> None:
        """Write what is left; runs that are still open were cut short, and end as failed."""

        def work() -> None:
            # Only here is it known which are open: others may be waiting to be closed.
            for number in list(self._open):
                self._end(number, "interrupted", {}, [])

        self._do(work)
        self._thread.shutdown()
        for future in self._submitted:
            future.result()

    def _end(self, number: int, state: str, facts: Facts, instruments: Sequence[Facts]) -> None:
        run = self._open.pop(number)
        run.summarise({"state": state, **facts})
        run.tag(state)
        if instruments:
            rows = [list(row.values()) for row in instruments]
            run.table("instruments", list(instruments[0]), rows)
        run.close(failed=state in ("failed", "interrupted"))

    def _do(self, work: Callable[[], None]) -> None:
        self._submitted.append(self._thread.submit(work))


def log_summary(
    recipe: Recipe,
    name: str,
    identity: str,
    trials: Sequence[Mapping[str, Any]],
    importances: Mapping[str, float],
    page: str,
    data: Mapping[str, Any],
    model: str | None,
) -> None:
    """Log the sweep as a whole, as a run of its own.

    Args:
        recipe: The sweep's recipe.
        name: The sweep's name.
        identity: The sweep's identity.
        trials: As from `list_trials`.
        importances: As from `importances`.
        page: HTML with the parallel coordinates.
        data: Fingerprints of the manifest and the features.
        model: Directory of the best trial's model.
    """
    run = tracking.start_run(
        recipe.tracking,
        name=name,
        job_type="sweep",
        group=name,
        run_id=identity,
        tags=["sweep", "summary"],
        config=recipe.model_dump(mode="json"),
    )
    run.uses(f"features-{data['features'][:12] or 'unknown'}", "dataset", data)
    searched = sorted({key for trial in trials for key in trial["params"]})
    facts = ["number", "state", "value", "epochs", "seconds", "parameters", "reason"]
    run.table(
        "leaderboard",
        facts + searched,
        [
            [trial[fact] for fact in facts]
            + [_cell([t["params"].get(key) for t in trials], trial["params"].get(key))
               for key in searched]
            for trial in trials
        ],
    )  # fmt: skip
    run.table("importances", ["setting", "importance"], [list(i) for i in importances.items()])
    best, history = None, []
    for trial in sorted(trials, key=lambda trial: trial["number"]):
        if trial["value"] is not None:
            best = max(best or 0.0, trial["value"])
            history.append([trial["number"], trial["value"], best])
    run.table("history", ["number", "macro_f1", "best_macro_f1"], history)
    run.page("parallel coordinates", page)
    states = [trial["state"] for trial in trials]
    top = best_row(trials)
    summary = {f"trials_{state}": states.count(state) for state in sorted(set(states))}
    if top is not None:
        summary |= {"best_macro_f1": top["value"], "best_trial": top["number"]}
        summary |= {f"best/{key}": value for key, value in top["params"].items()}
    run.summarise(summary)
    if model is not None and top is not None:
        made = {"macro_f1": top["value"], "trial": top["number"], **data}
        run.made(f"model-{name}", "model", model, made)
    run.close()


def _cell(column: Sequence[Any], value: Any) -> Any:
    """Return a value as W&B takes it: all of a column of one type."""
    kinds = {type(other) for other in column if other is not None}
    return (
        value if value is None or kinds <= {int, float} or kinds in ({str}, {bool}) else str(value)
    )
