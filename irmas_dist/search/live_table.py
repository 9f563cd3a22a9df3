"""What people see of a sweep while it runs: a live table, or a line per trial that ended."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from irmas_dist.search.study import with_epoch
from irmas_dist.terminal import say

SHOWN = 8
"""Ended trials in the live table, the best ones."""

UNFINISHED = ("running", "interrupted")

SPARKS = "▁▂▃▄▅▆▇█"

COLOURS = {"running": "cyan", "completed": "green", "pruned": "yellow", "failed": "red"}


class LiveTable:
    """What is known of the trials as they go.

    Args:
        total: Trials that the sweep is to have.
        epochs: Most epochs of a trial.
        earlier: What an earlier driver left, as from `list_trials`.
    """

    def __init__(self, total: int, epochs: int, earlier: Sequence[Mapping[str, Any]] = ()) -> None:
        self._total, self._epochs = total, epochs
        self._trials: dict[int, dict[str, Any]] = {
            row["number"]: {
                "state": row["state"],
                "reason": row["reason"],
                "curve": list(row["curve"]),
                "began": 0.0,
                "ended": row["seconds"] or 0.0,
            }
            for row in earlier
        }
        self._began, self._before = time.monotonic(), self._done()
        self.lines = True

    def start(self, number: int) -> None:
        """A trial begins, or goes on."""
        curve = self._trials.get(number, {}).get("curve", [])
        self._trials[number] = {"state": "running", "curve": curve, "began": time.monotonic()}

    def epoch(self, number: int, epoch: int, value: float) -> None:
        """A trial has done an epoch, the first, second, ... of it."""
        trial = self._trials[number]
        # It may have gone on from before the last epoch that was heard of.
        trial["curve"] = with_epoch(trial["curve"], epoch, value)

    def end(self, number: int, state: str, reason: str | None = None) -> None:
        """A trial has ended."""
        trial = self._trials[number]
        trial |= {"state": state, "reason": reason, "ended": time.monotonic()}
        if self.lines:
            say(self._line(number, trial))

    def _line(self, number: int, trial: Mapping[str, Any]) -> str:
        curve = trial["curve"]
        known = ((max(one["curve"]), which) for which, one in self._trials.items() if one["curve"])
        best = max(known, default=None)
        what = f"macro F1 {max(curve):.3f}" if curve else "no result"
        if trial["reason"]:
            what = escape(trial["reason"])
        leader = f"; best {best[0]:.3f} (trial {best[1]})" if best else ""
        return (
            f"trial {number} {trial['state']} after {_epochs(len(curve))}: {what}{leader}; "
            f"{self._done()} of {self._total}{self._left()}"
        )

    def _done(self) -> int:
        # The driver's thread adds trials while another one draws.
        return sum(one["state"] not in UNFINISHED for one in list(self._trials.values()))

    def _left(self) -> str:
        done = self._done()
        here = done - self._before
        if not here or done >= self._total:
            return ""
        seconds = (time.monotonic() - self._began) / here * (self._total - done)
        return f", {seconds:.0f} s left"

    def render(self) -> Group:
        """Return the live table: what runs, and the best of what has ended."""
        grid = Table(
            "trial", "state", "epochs", "macro F1",
            Column("by epoch", no_wrap=True), Column("seconds", justify="right"), "",
        )  # fmt: skip
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
                escape(trial.get("reason") or ""),
            )
        bar = ProgressBar(total=self._total, completed=self._done(), width=40)
        return Group(grid, bar, Text(f"{self._done()} of {self._total} trials{self._left()}"))


def spark(curve: list[float]) -> str:
    """Return a curve of values from 0 to 1 as a row of blocks."""
    return "".join(SPARKS[min(int(value * len(SPARKS)), len(SPARKS) - 1)] for value in curve[-24:])


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"
