"""The W&B runs of a sweep's trials, one for each.

Runs are opened and written in a thread of their own, so that a slow network delays no trial.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from irmas_dist import tracking
from irmas_dist.config.recipe import Recipe

Facts = Mapping[str, Any]
"""Values by name."""


class SweepRuns:
    """One run per trial, from its start to its end.

    Args:
        recipe: The sweep's recipe, which a trial's values change.
        name: The sweep's name, the group of its runs.
        identity: The sweep's identity, by which a trial's run is found again.
    """

    def __init__(self, recipe: Recipe, name: str, identity: str) -> None:
        self._recipe, self._name, self._identity = recipe, name, identity
        self._tracking = recipe.tracking
        self._open: dict[int, tracking.Run] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wandb")
        self._submitted: list[Future[None]] = []

    def start(self, number: int, values: Mapping[str, Any]) -> None:
        """Open a trial's run, or resume it after a pause or an interruption."""

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
                # Once W&B does not answer, later trials do not wait for it again.
                self._tracking = self._tracking.model_copy(update={"mode": run.mode})

        self._submit(work)

    def log(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch of a trial."""
        self._submit(lambda: self._open[number].log(metrics))

    def end(self, number: int, state: str, facts: Facts, instruments: Sequence[Facts]) -> None:
        """Close a completed, pruned or failed trial's run, with its summary and instruments."""
        self._submit(lambda: self._end(number, state, facts, instruments))

    def close(self) -> None:
        """Write what is left, and close open runs as failed: their trials were interrupted."""

        def work() -> None:
            # In the thread, where all submitted ends have been written.
            for number in list(self._open):
                self._end(number, "interrupted", {}, [])

        self._submit(work)
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

    def _submit(self, work: Callable[[], None]) -> None:
        self._submitted.append(self._thread.submit(work))
