"""The W&B runs of a sweep's trials, one for each.

Runs are opened and written in a thread of their own, so that no trial waits for that.
"""

import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irmas_dist import storage
from irmas_dist.config.recipe import with_values
from irmas_dist.config.tracking import LONGEST_NAME
from irmas_dist.search.sweep_directory import SweepRecord
from irmas_dist.terminal import say
from irmas_dist.tracking.outcome import show_address
from irmas_dist.tracking.run import Run, one_line
from irmas_dist.tracking.run_file import RunFile, run_files, unsent_files
from irmas_dist.tracking.server import resolve_mode
from irmas_dist.tracking.start import start_run
from irmas_dist.tracking.uploads import uploads

Facts = Mapping[str, Any]
"""Values by name."""

Metrics = Mapping[str, float]
"""Metrics of an epoch by name; ``epoch`` is its number."""

ENDS = "ends"
"""Folder of a sweep's directory: ends of trials that W&B's files may lack, a file for each."""


@dataclass
class _LoggedTrial:
    """What W&B is told of a running trial: its values, and its metrics by epoch."""

    values: Facts = field(default_factory=dict)
    epochs: dict[float, Metrics] = field(default_factory=dict)

    def log(self, metrics: Metrics) -> None:
        self.epochs[metrics["epoch"]] = metrics


def trial_run_id(identity: str, number: int) -> str:
    """Return the identity of the run of a sweep's trial."""
    return f"{identity}-{number:04d}"


def trial_run_name(sweep: str, number: int) -> str:
    """Return the display name of the run of a sweep's trial, which keeps the whole number."""
    end = f"-{number:03d}"
    return sweep[: LONGEST_NAME - len(end)] + end


class SweepRuns:
    """One run per trial, from its start to its end.

    What is logged reaches the run's file a second later, while the study has a trial's end at once.
    So the end is kept in the sweep's directory until the run is closed: if the driver is killed
    before, the next one completes the run.

    Args:
        record: The sweep: its recipe, which a trial's values change, and its identity, by which a
            trial's run is found again.
        out: The sweep's directory.
    """

    def __init__(self, record: SweepRecord, out: Path) -> None:
        self._record = record
        self._tracking = record.tracking
        self._ends = out / ENDS
        self._live: dict[int, _LoggedTrial] = {}
        self._open: dict[int, Run] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wandb")
        self._uploading = False
        self._failed = False

    @property
    def logs(self) -> bool:
        """Whether anything is logged, as far as that is known."""
        return self._tracking.mode != "disabled"

    def complete(self, running: Collection[int]) -> None:
        """Close the runs of trials that ended just before an earlier driver was killed.

        Args:
            running: Trials that are resumed: the study has no end of them.
        """
        for number in running:
            self._kept(number).unlink(missing_ok=True)
        ends = sorted(self._ends.glob("*.json"))
        if not ends:
            return
        self._resolve()
        for file in ends if self.logs else []:
            try:
                self._complete(file)
            except Exception as error:  # noqa: BLE001 - the trials are worth more than their runs
                say(f"W&B may lack the end of trial {int(file.stem)} ({one_line(error)})")

    def _resolve(self) -> None:
        """Take over the mode, so that later runs neither look for a key nor say that none is there.

        What a run's own failure costs is that run.
        """
        mode = resolve_mode(self._tracking)
        self._tracking = self._tracking.model_copy(update={"mode": mode})

    def _complete(self, file: Path) -> None:
        """Close the run of a trial whose end is in a file."""
        number, end = int(file.stem), storage.read_json(file)
        if self._is_closed(number, end["state"]):
            file.unlink()
            return
        self.start(number, end["values"], end["epochs"])
        with self.ending(number, end["state"], end["facts"], end["instruments"]):
            pass  # The study has it.

    def _kept(self, number: int) -> Path:
        return self._ends / f"{number:04d}.json"

    def _is_closed(self, number: int, state: str) -> bool:
        identity = trial_run_id(self._record.identity, number)
        files = run_files(self._tracking.directory, identity)
        last = RunFile(files[-1]) if files else None
        # An interruption closes a run, too.
        return last is not None and last.whole and last.summary.get("state") == state

    def start(
        self,
        number: int,
        values: Mapping[str, Any],
        history: Sequence[Metrics] = (),
    ) -> None:
        """Open a trial's run, or resume it after a pause or an interruption.

        Args:
            number: The trial.
            values: Its values by name.
            history: After an interruption, the metrics of the epochs before it.
        """
        trial = self._live.setdefault(number, _LoggedTrial())
        trial.values = values
        for metrics in history:
            trial.log(metrics)

        def work() -> None:
            config = with_values(self._record.recipe, values, "the search space")
            if run := self._open.get(number):
                run.configure(config)
                log_history(run)
                return
            self._resolve()
            self._open[number] = run = start_run(
                self._tracking,
                name=trial_run_name(self._record.name, number),
                job_type="trial",
                group=self._record.group,
                run_id=trial_run_id(self._record.identity, number),
                resumed=bool(history),
                tags=["sweep"],
                config=config,
            )
            if run.mode == "online" and not self._uploading:
                self._upload_earlier(number)
                show_address(self._tracking, "groups", self._record.group)
            run.uses_features(self._record.data.fingerprints())
            log_history(run)

        def log_history(run: Run) -> None:
            for metrics in history:
                run.log(metrics)

        self._submit(work)

    def _upload_earlier(self, first: int = -1) -> None:
        """Upload what an earlier driver had no time to, but of the first trial, which has begun."""
        self._uploading = True
        identity = self._record.identity
        files = unsent_files(run_files(self._tracking.directory, f"{identity}*"))
        own = f"run-{trial_run_id(identity, first)}.wandb"
        uploads.begin_all(file for file in files if file.name != own)

    def log(self, number: int, metrics: Metrics) -> None:
        """Log an epoch of a trial."""
        self._live[number].log(metrics)
        self._submit(lambda: self._open[number].log(metrics))

    @contextmanager
    def ending(
        self, number: int, state: str, facts: Facts, instruments: Sequence[Facts]
    ) -> Iterator[None]:
        """Close a completed, pruned or failed trial's run, once the study has the end.

        Args:
            number: The trial.
            state: How it ended.
            facts: Of its summary.
            instruments: A row for each.

        The block tells the study. A kill before it leaves the trial running; one after it, the end
        in a file.
        """
        trial = self._live[number]
        kept = self._kept(number)
        if self.logs:
            end = {"state": state, "facts": facts, "instruments": instruments}
            end |= {"values": trial.values, "epochs": list(trial.epochs.values())}
            try:
                storage.write_json(kept, end)
            except Exception as error:  # noqa: BLE001 - the trials are worth more than their runs
                say(f"a kill may cost W&B the end of trial {number} ({one_line(error)})")
        yield
        del self._live[number]

        def work() -> None:
            if self._end(number, state, facts, instruments):
                kept.unlink(missing_ok=True)

        self._submit(work)

    def close(self) -> None:
        """Write what is left, and close open runs as failed: their trials were interrupted."""

        def work() -> None:
            # In the thread, where all submitted ends have been written.
            for number in list(self._open):
                self._end(number, "interrupted", {}, [])
            if not self._uploading and resolve_mode(self._tracking) == "online":
                self._upload_earlier()
            if self._ends.exists() and not any(self._ends.glob("*.json")):
                storage.remove_directory(self._ends)

        self._submit(work)
        self._thread.shutdown()

    def _end(self, number: int, state: str, facts: Facts, instruments: Sequence[Facts]) -> bool:
        """Close a run; return whether its file has all of it."""
        run = self._open.pop(number)
        run.summarise({"state": state, **facts})
        run.tag(state)
        if instruments:
            rows = [list(row.values()) for row in instruments]
            run.table("instruments", list(instruments[0]), rows)
        run.close(failed=state in ("failed", "interrupted"))
        return run.whole

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
