"""The W&B runs of a sweep's trials, one for each.

Runs are opened and written in a thread of their own, so that no trial waits for that.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from irmas_dist.config.recipe import with_values
from irmas_dist.search.sweep_directory import SweepRecord
from irmas_dist.terminal import say
from irmas_dist.tracking.outcome import show_address
from irmas_dist.tracking.run import Run, one_line
from irmas_dist.tracking.run_file import run_files, unsent_files
from irmas_dist.tracking.start import start_run
from irmas_dist.tracking.uploads import uploads

Facts = Mapping[str, Any]
"""Values by name."""


def trial_run_id(identity: str, number: int) -> str:
    """Return the identity of the run of a sweep's trial."""
    return f"{identity}-{number:04d}"


class SweepRuns:
    """One run per trial, from its start to its end.

    Args:
        record: The sweep: its recipe, which a trial's values change, and its identity, by which a
            trial's run is found again.
    """

    def __init__(self, record: SweepRecord) -> None:
        self._record = record
        self._tracking = record.tracking
        self._open: dict[int, Run] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wandb")
        self._uploading = False
        self._failed = False

    def start(
        self,
        number: int,
        values: Mapping[str, Any],
        history: Callable[[], Sequence[Mapping[str, float]]] | None = None,
    ) -> None:
        """Open a trial's run, or resume it after a pause or an interruption.

        Args:
            number: The trial.
            values: Its values by name.
            history: After an interruption, returns the metrics of the epochs before it.
        """

        def work() -> None:
            config = with_values(self._record.recipe, values, "the search space")
            if number in self._open:
                self._open[number].configure(config)
                return
            self._open[number] = run = start_run(
                self._tracking,
                name=f"{self._record.name}-{number:03d}",
                job_type="trial",
                group=self._record.group,
                run_id=trial_run_id(self._record.identity, number),
                resumed=history is not None,
                tags=["sweep"],
                config=config,
            )
            # Later trials neither look for a key nor say again that there is none.
            self._tracking = self._tracking.model_copy(update={"mode": run.mode})
            if run.mode == "online" and not self._uploading:
                self._uploading = True
                self._upload_earlier(number)
                show_address(self._tracking, f"groups/{self._record.group}")
            run.uses_features(self._record.data)
            for metrics in history() if history else ():
                run.log(metrics)

        self._submit(work)

    def _upload_earlier(self, first: int) -> None:
        """Upload what an earlier driver had no time to, but of the first trial, which has begun."""
        identity = self._record.identity
        files = unsent_files(run_files(self._tracking.directory, f"{identity}*"))
        own = f"run-{trial_run_id(identity, first)}.wandb"
        uploads.begin_all(file for file in files if file.name != own)

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

    def _end(self, number: int, state: str, facts: Facts, instruments: Sequence[Facts]) -> None:
        run = self._open.pop(number)
        run.summarise({"state": state, **facts})
        run.tag(state)
        if instruments:
            rows = [list(row.values()) for row in instruments]
            run.table("instruments", list(instruments[0]), rows)
        run.close(failed=state in ("failed", "interrupted"))

    def _submit(self, work: Callable[[], None]) -> None:
        """Do work in the thread; no error of it ends the sweep."""

        def do() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the trials are worth more than their runs
                traceback.print_exc()
                if not self._failed:
                    say(f"W&B failed to log a trial ({one_line(error)})")
                self._failed = True

        self._thread.submit(do)
