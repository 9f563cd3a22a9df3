"""Arguments of all commands: names of files resolved, and refused before work begins."""

import errno
import math
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import typer

from irmas_dist.config.base import OBJECT_STORES
from irmas_dist.config.shipped import shipped_names
from irmas_dist.config.training import split_weight
from irmas_dist.errors import IrmasError, UsageError
from irmas_dist.terminal import results_to_stderr

WRITTEN = ("out", "preview_out", "work", "storage", "timeline", "vocabulary_from_table")
"""Parameters that say where a command writes."""

STREAMS = {"index": "out", "extract": "preview_out", "report": "out", "predict": "out"}
"""The option of each command that names one file to write, which may be standard output."""

FILES = (
    *("table", "vocabulary_from_table", "preview", "scores", "labels", "fit_on", "fit_labels"),
    *("config", "mapping", "adapt_to"),
)
"""Options that name a file beside it, or a recipe by its name; `predict` looks at its inputs."""

STDOUT_NAMES = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""While a command runs, these are its log."""

AUDIO_ARGUMENTS = ("inputs", "preview", "check_on")
"""Arguments that name audio, whose name need not be UTF-8."""

VERBATIM_ARGUMENTS = ("command", "overrides", "column", "prevalence")
"""Arguments that name things elsewhere: a job's paths, a recipe's settings, columns."""


def prepare_stdout(command: str, arguments: Mapping[str, Any]) -> None:
    """Leave standard output to the file that is written there, if an option says so.

    Raises:
        UsageError: The option does not write to it.
        BadParameter: ``--json`` writes to standard output too.
    """
    for name in WRITTEN:
        if str(arguments.get(name)) != "-":
            continue
        if STREAMS.get(command) != name:
            raise UsageError(
                "- stands for standard output, which this option does not write to: use ./-"
            )
        if arguments.get("json") and command != "predict":  # There it chooses the format.
            raise typer.BadParameter("--json and - both write to standard output: give one of them")
        results_to_stderr()


def keep_files(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuse to write a file over one of a stage's result, or one that another argument names."""
    file = arguments.get(name)
    if file is None or str(file) == "-":
        return
    from irmas_dist import storage
    from irmas_dist.corpus.audio_files import AUDIO_SUFFIXES
    from irmas_dist.storage.results import refuse_inputs, refuse_result_file  # imports pyarrow

    storage.require_bucket(str(file))
    refuse_result_file(str(file))
    named = (str(arguments[other]) for other in FILES if arguments.get(other) is not None)
    refuse_inputs(str(file), set(named) - set(shipped_names("recipe")))
    if Path(str(file)).suffix.lower() in AUDIO_SUFFIXES:
        raise IrmasError(f"{file} has the name of an audio file: write to another file")


def located(name: str, value: Any) -> Any:
    """Return an argument with its home directory or file URL resolved; other values as they are.

    Raises:
        IrmasError: A URL stands where only a local path can, or there is no such home.
    """
    if name in VERBATIM_ARGUMENTS or (name == "mapping" and "=" in str(value)):
        return value
    if isinstance(value, list):
        return [located(name, item) for item in value]
    if not isinstance(value, str | Path):
        return value
    if name == "also" and split_weight(str(value))[1] is not None:
        store, _, weight = str(value).rpartition(":")
        return f"{located(name, store)}:{weight}"
    if str(value) in STDOUT_NAMES:
        return type(value)("-")
    _require_usable(name, str(value))
    # A Path has but one of a URL's slashes.
    url = re.match(r"([A-Za-z][\w+.-]*):/", str(value))
    if url and url[1].lower() == "file":
        return type(value)(unquote(urlsplit(str(value)).path))
    if url and isinstance(value, Path):
        raise IrmasError(f"{value.as_posix().replace(':/', '://', 1)}: must be a local path here")
    if url and url[1] in OBJECT_STORES and unquote(str(value)) != str(value):
        return _as_stored(str(value))
    if str(value).startswith("~"):
        try:
            return type(value)(Path(value).expanduser())
        except RuntimeError as error:
            raise IrmasError(f"{value}: no such user") from error
    return value


def _require_usable(name: str, value: str) -> None:
    """Refuse what no command can use as a name: too long, not UTF-8, or a device to be read."""
    text = value.encode("utf-8", "replace").decode()
    if text != value and name not in AUDIO_ARGUMENTS:
        raise IrmasError(f"{text}: its name is not UTF-8; rename it")
    try:
        mode = Path(value).stat().st_mode
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise IrmasError(f"{text[:40]}…: {error.strerror}") from error
        return
    # Some are endless.
    if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and name not in STREAMS.values():
        raise IrmasError(f"{text} is a device: name a file")


def _as_stored(url: str) -> str:
    """Return the URL of an object whose key is written as it is, or else percent-encoded."""
    from irmas_dist import storage

    decoded = unquote(url)
    with suppress(IrmasError):  # A store that cannot be reached is reported where it is used.
        if storage.exists(decoded) and not storage.exists(url):
            return decoded
    return url


def require_finite(arguments: Mapping[str, Any]) -> None:
    """Refuse NaN and infinity, which a range of the command line does not."""
    for name, value in arguments.items():
        if isinstance(value, float) and not math.isfinite(value):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} {value}: should be a finite number")
