"""The live table of a running sweep, or a line per ended trial where there is no terminal."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from irmas_dist.search.study import with_epoch
from irmas_dist.terminal import say, visible

SHOWN = 8  # ended trials, the best ones
REASONS = 3  # failures below the table, the latest ones
SPARK_EPOCHS = 20  # latest epochs in a row of blocks; more do not fit into 80 columns
SPARKS = "▁▂▃▄▅▆▇█"

UNFINISHED = ("running", "interrupted")

COLOURS = {"running": "cyan", "completed": "green", "pruned": "yellow", "failed": "red"}


class LiveTable:
    """The states and curves of the trials.

    Args:
        total: Number of trials of the sweep.
        epochs: Most epochs of a trial.
        earlier: Trials of earlier drivers, as from `list_trials`.
    """

    def __init__(self, total: int, epochs: int, earlier: Sequence[Mapping[str, Any]] = ()) -> None:
        self._total, self._epochs = total, epochs
        self._trials: dict[int, dict[str, Any]] = {
            row["number"]: {**row, "began": 0.0, "ended": row["seconds"] or 0.0} for row in earlier
        }
        self._began, self._ended_before = time.monotonic(), self._ended()
        self.lines = True

    def start(self, number: int) -> None:
        """Start or resume a trial."""
        curve = self._trials.get(number, {}).get("curve", [])
        self._trials[number] = {"state": "running", "curve": curve, "began": time.monotonic()}

    def epoch(self, number: int, epoch: int, value: float) -> None:
        """Add an epoch of a trial, counted from 1, with the best macro F1 so far."""
        trial = self._trials[number]
        # A resumed trial may run its last reported epochs again.
        trial["curve"] = with_epoch(trial["curve"], epoch, value)

    def end(self, number: int, state: str, reason: str | None = None) -> None:
        """End a trial."""
        trial = self._trials[number]
        trial |= {"state": state, "reason": reason, "ended": time.monotonic()}
        if self.lines:
            say(self._line(number, trial))

    def _line(self, number: int, trial: Mapping[str, Any]) -> str:
        curve = trial["curve"]
        values = (
            (max(one["curve"]), -n)  # The first of several that are equal.
            for n, one in self._trials.items()
            if one["state"] == "completed" and one["curve"]
        )
        best = max(values, default=None)
        result = f"macro F1 {max(curve):.3f}" if curve else "no result"
        if trial["reason"]:
            result = trial["reason"]
        leader = f"; best {best[0]:.3f} (trial {-best[1]})" if best else ""
        epochs = f"{len(curve)} epoch{'' if len(curve) == 1 else 's'}"
        return (
            f"trial {number} {trial['state']} after {epochs}: {result}{leader}; "
            f"{self._ended()} of {self._total}{self._time_left()}"
        )

    def _ended(self) -> int:
        # The driver's thread adds trials while another one draws.
        return sum(one["state"] not in UNFINISHED for one in list(self._trials.values()))

    def _time_left(self) -> str:
        ended = self._ended()
        here = ended - self._ended_before
        if not here or ended >= self._total:
            return ""
        seconds = (time.monotonic() - self._began) / here * (self._total - ended)
        return f", {seconds:.0f} s left"

    def render(self) -> Group:
        """Return the running trials, the best ended ones, the latest failures and a bar."""
        headings = ("trial", "state", "epochs", "macro F1", "by epoch", "seconds")
        grid = Table(*(Column(heading, no_wrap=True) for heading in headings))
        # The driver's thread adds trials while this one draws.
        trials = list(self._trials.items())
        running = [item for item in trials if item[1]["state"] == "running"]
        ended = [item for item in trials if item[1]["state"] not in UNFINISHED]
        ended.sort(key=lambda item: -max(item[1]["curve"], default=-1.0))
        for number, trial in [*running, *ended[:SHOWN]]:
            curve = trial["curve"]
            until = trial.get("ended", time.monotonic())
            grid.add_row(
                str(number),
                Text(trial["state"], style=COLOURS.get(trial["state"], "")),
                f"{len(curve)}/{self._epochs}",
                f"{max(curve):.3f}" if curve else "",
                spark(curve),
                f"{until - trial['began']:.0f}",
            )
        failed = [(number, trial) for number, trial in trials if trial.get("reason")]
        reasons = [
            Text(visible(f"trial {n} failed: {one['reason']}")) for n, one in failed[-REASONS:]
        ]
        bar = ProgressBar(total=self._total, completed=self._ended(), width=40)
        count = Text(f" {self._ended()} of {self._total} trials{self._time_left()}")
        return Group(grid, *reasons, bar, count)


def spark(curve: Sequence[float]) -> str:
    """Return the latest values of a curve, each from 0 to 1, as a row of blocks."""
    latest = curve[-SPARK_EPOCHS:]
    return "".join(SPARKS[min(int(value * len(SPARKS)), len(SPARKS) - 1)] for value in latest)
