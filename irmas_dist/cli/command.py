"""What all commands share: options, a log file for other output, one-line errors, exit codes."""

import functools
import importlib.metadata
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from irmas_dist.cli.arguments import (
    STREAMS,
    keep_files,
    located,
    prepare_stdout,
    require_finite,
)
from irmas_dist.config.base import Settings
from irmas_dist.config.shipped import shipped_names
from irmas_dist.errors import (
    IrmasError,
    UsageError,
    first_line,
    is_out_of_memory,
    without_password,
)
from irmas_dist.terminal import chatter_to, say, visible

if TYPE_CHECKING:
    from irmas_dist.config.recipe import Recipe

MAX_COUNT = 100_000
"""Largest number of anything that an option takes: more is a slip of the keyboard."""


class StorePart(StrEnum):
    """Parts of a feature store."""

    TRAINING = "training"
    VALIDATION = "validation"
    TESTING = "testing"


P = ParamSpec("P")
R = TypeVar("R")

Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        help=f"Recipe: a YAML file, a model directory, or {', '.join(shipped_names('recipe'))}.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one setting: training.lr=1e-3. May be repeated."),
]
Also = Annotated[
    list[str] | None,
    typer.Option(
        "--also",
        metavar="STORE[:WEIGHT]",
        help="A further feature store to train on: WEIGHT (default 1) examples begin with one of "
        "its clips for each that begins with a clip of FEATURES. May be repeated.",
    ),
]
Init = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Model directory to start from: its normalisation, and the weights of all layers "
        "that fit; default: random weights.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print the resolved recipe and the size of its network, and stop."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Address = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to join: 'auto' or an address; default: RAY_ADDRESS, else "
        "this machine alone."
    ),
]


AdaptTo = Annotated[
    str | None,
    typer.Option(
        help="Adapt the model to this audio or feature store first, without its labels, as "
        "'irmas adapt' does."
    ),
]


def setting_option(model: type[Settings], name: str, default: str | None = None) -> Any:
    """Return a command line option with a setting's description and default, or another one."""
    field = model.model_fields[name]

    def named(match: re.Match[str]) -> str:
        setting = match[1]
        return f"--{setting.replace('_', '-')}" if setting in model.model_fields else setting

    text = re.sub("``(.*?)``", named, " ".join((field.description or "").split()))
    own = field.default is not None and str(field.default)
    return typer.Option(help=text, show_default=default or own)


def given_settings(model: type[Settings], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a command's arguments that are settings of a model and were given."""
    return {name: arguments[name] for name in model.model_fields if arguments.get(name) is not None}


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Send the output of libraries to a log file, and turn errors into one line.

    The exit status is 1 when the command fails, 2 when its options contradict each other, and 130
    when it is interrupted, by SIGTERM too, which Slurm, Kubernetes and spot machines send, or by
    SIGHUP, which a terminal sends when it is closed.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        log = Path(os.devnull)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as it is under nohup
                signal.signal(signal.SIGHUP, _hang_up)
        try:
            with chatter_to(*_log_paths(function.__name__.strip("_"))) as log:
                try:
                    require_finite(kwargs)
                    arguments = {name: located(name, value) for name, value in kwargs.items()}
                    prepare_stdout(function.__name__, arguments)
                    keep_files(STREAMS.get(function.__name__, ""), arguments)
                    result = function(*args, **arguments)
                except (typer.Exit, typer.BadParameter, IrmasError):
                    raise
                except (KeyboardInterrupt, SystemExit, BrokenPipeError):
                    traceback.print_exc()
                    raise
                except Exception as error:
                    traceback.print_exc()
                    if not is_out_of_memory(error):
                        print(_as_bug(error))  # The suite looks for it.
                    raise
        except (typer.Exit, typer.BadParameter):
            _say_where(log)
            raise
        except IrmasError as error:
            message, status = str(error), 2 if isinstance(error, UsageError) else 1
        except (KeyboardInterrupt, SystemExit) as error:
            # Ray answers SIGINT and SIGTERM by SystemExit.
            advice = str(error) if isinstance(error, KeyboardInterrupt) else ""
            message, status = "; ".join(["interrupted", *advice.splitlines()]), 130
        except BrokenPipeError:
            # The reader of the pipe, such as head, has closed it.
            raise typer.Exit(141) from None
        except Exception as error:  # noqa: BLE001 - the last resort: its traceback is in the log
            short = is_out_of_memory(error)
            message = f"out of memory: {first_line(error)}" if short else _as_bug(error)
            status = 1
        else:
            _say_where(log)
            return result
        where = f" (log: {log})" if log.is_file() else ""
        # Not through rich, which would take brackets in names for markup.
        with suppress(OSError):  # of a terminal that is closed
            line = visible(without_password(" ".join(message.split())))
            print(f"irmas: {line}{where}", file=sys.stderr)
        raise typer.Exit(status)

    return wrapped


def _hang_up(number: int, _: FrameType | None) -> None:
    # A session's leader is sent it once more, with its group.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say_where(log: Path) -> None:
    if log.is_file():
        say(f"log: {log}")


def _as_bug(error: Exception) -> str:
    """Describe an error that is a bug, and where to report it if the package's metadata says so."""
    urls: dict[str, str] = {}
    with suppress(importlib.metadata.PackageNotFoundError):
        for url in importlib.metadata.metadata("irmas-dist").get_all("Project-URL", ()):
            label, _, address = url.partition(", ")
            urls[label.lower()] = address
    address = urls.get("issues") or urls.get("repository")
    where = f" at {address}" if address else ""
    return (
        f"unexpected {type(error).__name__}: {error}; this is a bug: report it{where} with the log"
    )


def _log_paths(command: str) -> list[Path]:
    """Return where the log may be."""
    name = f"{command}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    folders = [os.environ.get("IRMAS_LOG_DIR", "runs/logs")]
    with suppress(FileNotFoundError):  # There may be no temporary directory that can be written.
        folders.append(tempfile.gettempdir())
    return [Path(folder, name) for folder in folders]


def read_recipe(
    config: str | None,
    overrides: list[str] | None,
    used: Sequence[str] | None = None,
    indexing: bool = False,
) -> "Recipe":
    """Read the recipe that ``--config`` and ``--set`` ask for.

    Args:
        config: Name, file or model directory; None means the defaults.
        overrides: ``name=value`` each.
        used: Parts of the recipe that the command uses; None means all.
        indexing: Whether it indexes audio, and settles conflicts.

    Raises:
        UsageError: An override cannot be used, or would have no effect.
        IrmasError: The recipe cannot be used.
    """
    from irmas_dist.config.recipe import load_recipe

    for override in overrides or ():
        name = override.partition("=")[0].strip()
        part = name.partition(".")[0].strip()
        if name == "corpus.conflicts" and not indexing:
            raise UsageError(f"--set {override}: conflicts are settled by irmas index alone")
        if used is not None and part not in used:
            raise UsageError(
                f"--set {override}: this command uses nothing of the recipe but "
                f"{' and '.join(used)}"
            )
    return load_recipe(config, overrides or ())
