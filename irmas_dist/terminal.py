"""Terminal output: results on standard output, messages and progress on standard error.

Inside `chatter_to`, all other output (of Ray, wandb, Optuna, their child processes, warnings)
goes to a log file, by redirection of the file descriptors.
"""

import errno
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape as escape_markup
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

from irmas_dist.errors import IrmasError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LINE_EVERY_S = 10.0
"""Interval between the lines that report progress where there is no terminal."""

RATE_OVER_S = 600.0
"""Time over which the rate of progress is taken."""

LEAST_COLUMNS = 80
"""Width of a terminal below which tables are not narrowed: their figures would be cut."""

CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0))}
"""Characters that a terminal may obey, as Python writes them."""


class _Console(Console):
    """A console whose reader may go: rich ends the process then, as if it were interrupted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(soft_wrap=True, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


_out = _Console()
_err = _Console(stderr=True)
_results = _out


def visible(text: str) -> str:
    """Return a text with control characters as Python writes them: names of files may have any."""
    return text.translate(CONTROLS)


def escape(text: str) -> str:
    """Return a text for a cell of a table, which is rich's markup; control characters `visible`."""
    return escape_markup(visible(text))


def say(message: str, style: str = "") -> None:
    """Print a message on standard error as it is, control characters `visible`."""
    _err.print(Text(visible(message)), style=style)


def show(result: RenderableType) -> None:
    """Print a result on standard output, or where `results_to_stderr` says.

    Args:
        result: A table; or a text, which is printed as it is, control characters `visible`.
    """
    with _one_line():
        _results.print(Text(visible(result)) if isinstance(result, str) else result)


def write(text: str) -> None:
    """Write text to standard output unchanged: no markup, no wrapping, no line end."""
    with _one_line():
        _results.file.write(text)
        _results.file.flush()


def results_to_stderr() -> None:
    """Print results on standard error until the end of the command: a file has the other."""
    global _results
    _results = _Console(file=_err.file, width=max(_err.width, LEAST_COLUMNS))


def write_bytes(content: bytes) -> None:
    """Write a file to standard output."""
    with _one_line():
        _out.file.flush()
        stream: BinaryIO = _out.file.buffer  # type: ignore[attr-defined]
        stream.write(content)
        stream.flush()


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn errors of standard output into one line, but for those of a reader that has gone."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise IrmasError(f"standard output: {error.strerror}") from error


class Advance(Protocol):
    """A function that advances the progress, from any thread."""

    def __call__(self, steps: int, note: str = "", *, earlier: bool = False) -> None:
        """Advance by ``steps``.

        Args:
            steps: May be negative, where something is done again.
            note: Shown after the numbers until the next call.
            earlier: Whether an earlier run took them, so that they do not count for the rate.
        """


@contextmanager
def progress(description: str, total: int, unit: str = "") -> Iterator[Advance]:
    """Show the progress of ``total`` steps, and yield the function that advances it.

    A terminal shows a bar with rate and time left; elsewhere a line is printed periodically. The
    rate is that since the first step was done, for the time until then includes what is prepared.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    silent = not _err.is_terminal
    bar = Progress(
        *columns,
        console=_err,
        speed_estimate_period=RATE_OVER_S,
        get_time=time.monotonic,
        disable=silent,
    )
    number = bar.add_task(description, total=total, note="")
    [task] = bar.tasks
    started = reported = time.monotonic()
    lock = Lock()

    def advance(steps: int, note: str = "", *, earlier: bool = False) -> None:
        nonlocal reported
        with lock:
            if earlier:
                bar.reset(number, completed=int(task.completed) + steps, note=note)
                return
            bar.update(number, advance=steps, note=note)
            now = time.monotonic()
            if not silent or now - reported < LINE_EVERY_S or task.completed >= total:
                return
            reported = now
            left = f"{task.time_remaining:,.0f} s left" if task.time_remaining else ""
            done = f"{task.completed:,} of {total:,} {unit}"
            parts = (done, _rate(task.speed, unit), left, note)
            say(f"{description}: {', '.join(filter(None, parts))}")

    with bar:
        yield advance
    if silent:
        took = time.monotonic() - started
        say(f"{description}: {task.completed:,} of {total:,} {unit} in {took:.1f} s")


@contextmanager
def watching(render: Callable[[], RenderableType]) -> Iterator[bool]:
    """Show what ``render`` returns on the terminal, redrawn four times a second.

    Yields whether there is a terminal; without one nothing is shown.
    """
    if not _err.is_terminal:
        yield False
        return
    with Live(console=_err, get_renderable=render, refresh_per_second=4, transient=True):
        yield True


class _RateColumn(ProgressColumn):
    """The rate of a task in its unit."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing while it is not known."""
        return Text(_rate(task.speed, self._unit), style="progress.data.speed")


def _rate(per_second: float | None, unit: str) -> str:
    """Return a rate as text, below one per second as seconds per unit; nothing if unknown."""
    if not per_second:
        return ""
    if per_second < 1:
        return f"{1 / per_second:,.1f} s/{unit.removesuffix('s')}"
    return f"{per_second:,.1f} {unit}/s"


@contextmanager
def chatter_to(*log_paths: Path) -> Iterator[Path]:
    """Send all output except this module's to a log file, and yield its path.

    File descriptors 1 and 2 are redirected, for child processes too, and restored on exit. An
    empty log is deleted then, with the folders that were created for it.

    Args:
        log_paths: Where the log may be, in order of preference; where it can be nowhere, the
            output is lost.
    """
    global _out, _err, _results
    sys.stdout.flush()
    sys.stderr.flush()
    before = _out, _err, _results
    with (
        _open_log(log_paths) as log,
        _duplicate(1) as terminal_out,
        _duplicate(2) as terminal_err,
    ):
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        _out = _results = _Console(file=terminal_out)
        _err = _Console(file=terminal_err)
        _results.width = max(_results.width, LEAST_COLUMNS)
        try:
            # In notebooks and test runners, these do not write to the descriptors.
            with redirect_stdout(log), redirect_stderr(log):
                yield Path(log.name)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            _out, _err, _results = before
            os.dup2(terminal_out.fileno(), 1)
            os.dup2(terminal_err.fileno(), 2)


class _Terminal(io.FileIO):
    """A terminal, which may be closed: what is written then is lost, since nobody would see it."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write bytes, and return how many are dealt with."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return memoryview(data).nbytes


@contextmanager
def _duplicate(descriptor: int) -> Iterator[TextIO]:
    opened = _Terminal if os.isatty(descriptor) else io.FileIO
    raw = opened(os.dup(descriptor), "w")
    # A terminal may not have a character.
    stream = io.TextIOWrapper(io.BufferedWriter(raw), errors="replace", line_buffering=raw.isatty())
    try:
        yield stream
    finally:
        with suppress(OSError):  # What could not be written has been reported.
            stream.close()


@contextmanager
def _open_log(paths: Sequence[Path]) -> Iterator[TextIO]:
    """Open the first log that can be created."""
    for path in paths:
        created = [folder for folder in path.parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A name on disk need not be UTF-8.
            log = path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        try:
            with log:
                yield log
        finally:
            with suppress(OSError):  # Another command may use the folders by now.
                if not path.stat().st_size:
                    path.unlink()
                    for folder in created:
                        folder.rmdir()
        return
    with Path(os.devnull).open("w") as nowhere:
        yield nowhere
