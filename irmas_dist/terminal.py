"""What people see: clean lines and progress on the terminal, all chatter in a log file.

Results go to standard output, everything that is said along the way to standard error.
Inside `chatter_to`, whatever else writes to either (Ray, wandb, Optuna, their child
processes, warnings) is sent to a file instead, at the level of file descriptors.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from threading import Lock
from typing import Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_EVERY_S = 10.0
"""Where there is no terminal to draw a bar on, say how far things are this often."""

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)


def say(message: str) -> None:
    """Print one line for people on standard error; rich's markup is understood."""
    _err.print(message, highlight=False)


def show(result: RenderableType) -> None:
    """Print a result (a table, a line) on standard output."""
    _out.print(result, highlight=False)


def write(text: str) -> None:
    """Write text to standard output as it stands: no markup, no wrapping, no line end."""
    _out.file.write(text)
    _out.file.flush()


class Advance(Protocol):
    """Advances a progress by some steps, from any thread."""

    def __call__(self, steps: int, note: str = "") -> None:
        """Advance; ``note`` is shown behind the numbers until the next."""


@contextmanager
def progress(description: str, total: int, unit: str = "") -> Iterator[Advance]:
    """Show the progress of ``total`` steps; yields the function that advances it.

    On a terminal this is a bar with rate and time left; elsewhere a line now and then.
    """
    if _err.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=_err) as bar:
            task = bar.add_task(description, total=total, note="")

            def advance_bar(steps: int, note: str = "") -> None:
                bar.update(task, advance=steps, note=note)

            yield advance_bar
        return
    started = said = time.monotonic()
    done = 0
    lock = Lock()

    def advance(steps: int, note: str = "") -> None:
        nonlocal done, said
        with lock:
            done += steps
            now = time.monotonic()
            if now - said < LINE_EVERY_S or not 0 < done < total:
                return
            said = now
        left = (total - done) * (now - started) / done
        rate = _rate(done / (now - started), unit)
        told = f", {escape(note)}" if note else ""
        say(f"{description}: {done:,} of {total:,} {unit}, {rate}, {left:.0f} s left{told}")

    yield advance
    say(f"{description}: {done:,} of {total:,} {unit} in {time.monotonic() - started:.1f} s")


@contextmanager
def watching(render: Callable[[], RenderableType]) -> Iterator[bool]:
    """Keep what ``render`` returns on the terminal, and drawn anew four times a second.

    Yields whether there is a terminal; elsewhere nothing is shown.
    """
    if not _err.is_terminal:
        yield False
        return
    with Live(console=_err, get_renderable=render, refresh_per_second=4, transient=True):
        yield True


def _rate(per_second: float, unit: str) -> str:
    """Say a rate the way round that reads well: many a second, or seconds for one."""
    if 0 < per_second < 1:
        return f"{1 / per_second:,.1f} s/{unit.removesuffix('s')}"
    return f"{per_second:,.1f} {unit}/s"


class _Rate(ProgressColumn):
    """The mean rate since the start, in units per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        rate = task.completed / elapsed if elapsed else 0.0
        return Text(_rate(rate, self._unit), style="progress.data.speed")


@contextmanager
def chatter_to(log_path: Path) -> Iterator[None]:
    """Send all output but that of `say`, `show` and `progress` to ``log_path``.

    File descriptors 1 and 2 are redirected, so child processes started inside are
    silenced as well; on leaving, both are as they were.
    """
    global _out, _err
    log_path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept_out, kept_err = os.dup(1), os.dup(2)
    before = _out, _err
    with (
        log_path.open("a", buffering=1) as log,
        os.fdopen(kept_out, "w", closefd=False) as people_out,
        os.fdopen(kept_err, "w", closefd=False) as people_err,
    ):
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        _out = Console(file=people_out, soft_wrap=True)
        _err = Console(file=people_err, soft_wrap=True)
        try:
            # Where these are not the descriptors (notebooks, test runners), they go there too.
            with redirect_stdout(log), redirect_stderr(log):
                yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            _out, _err = before
            os.dup2(kept_out, 1)
            os.dup2(kept_err, 2)
    os.close(kept_out)
    os.close(kept_err)
