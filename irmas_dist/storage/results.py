"""What a directory holds the result of, so that no stage writes into that of another."""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from irmas_dist import storage
from irmas_dist.errors import IrmasError

STORE_FILE, MODEL_FILE, SWEEP_FILE = "features.json", "model.json", "sweep.json"

WEIGHTS_FILE, VALIDATION_FILE, KNOWN_FILE, SCORES_FILE = (
    "model.safetensors", "validation.parquet", "known.parquet", "scores.parquet",
)  # fmt: skip
"""Beside `MODEL_FILE`: weights, scores of the validation clips, digests of the audio that it knows,
and scores of an evaluation."""

PROGRESS = "progress"
"""Directory of the checkpoints, inside the model directory until the model is finished."""

BEST_FILE = "best.yaml"
"""The best trial's recipe, beside `SWEEP_FILE`."""

RESULTS = {STORE_FILE: "a feature store", MODEL_FILE: "a model", SWEEP_FILE: "a sweep"}
"""The file that each stage writes into its directory, and what that holds."""

BEGUN_FILE = "begun.json"
"""Record of an unfinished training in its model directory: recipe, data, and W&B run.

The directory of that run is absolute, so that the training can be resumed from anywhere."""

UNFINISHED = {BEGUN_FILE: "an unfinished training"}
"""What a directory holds before it has a result."""

FILES = (
    *RESULTS, *UNFINISHED, WEIGHTS_FILE, VALIDATION_FILE, KNOWN_FILE, SCORES_FILE,
    "part-*.parquet", "rejects.parquet", BEST_FILE, "trials.json", "study.db",
)  # fmt: skip
"""Patterns of the files that stages write into their directories and use again."""


def holds(directory: storage.Location, result: str) -> bool:
    """Return whether a directory holds a stage's result, by the file of `RESULTS`."""
    return storage.exists(storage.join(directory, result))


def progress_directory(out: storage.Location) -> str:
    """Return the absolute path or URL of the checkpoints of the training in ``out``."""
    return storage.join(storage.absolute(out), PROGRESS)


def found_instead(location: storage.Location) -> str:
    """Say what there is where a stage's result is missing; empty if it is nothing of a stage."""
    if not storage.is_url(location) and Path(location).is_file():
        return "it is a file"
    held = (what for name, what in (RESULTS | UNFINISHED).items() if holds(location, name))
    return next((f"it holds {what}" for what in held), "")


def refuse_result_file(path: str) -> None:
    """Refuse a file that would be taken for one of a stage's result.

    Args:
        path: Path or URL of the file that is to be written.

    Raises:
        IrmasError: It is one of `FILES` in the directory of a stage, finished or not.
    """
    directory, _, name = path.rpartition("/")
    if not any(fnmatchcase(name, pattern) for pattern in FILES):
        return
    for result, what in (RESULTS | UNFINISHED).items():
        if holds(directory or ".", result):
            raise IrmasError(f"{path} would be taken for a file of {what}: name another")


def refuse_inputs(path: str, inputs: Iterable[storage.Location]) -> None:
    """Refuse a file that would be written over one that is read.

    Args:
        path: Path or URL of the file that is to be written.
        inputs: Those that are read.

    Raises:
        IrmasError: It is one of them, whatever its path is there.
    """
    if storage.real(path) in map(storage.real, inputs):
        raise IrmasError(f"{path} is named for something else, too: write to another file")


def refuse_other_results(directory: str, own: str) -> None:
    """Refuse a directory, a path or URL, that holds the result of another stage.

    Args:
        directory: Where a stage is to write.
        own: The file of `RESULTS` that it writes.

    Raises:
        IrmasError: There is another of these files.
    """
    for name, what in RESULTS.items():
        if name != own and holds(directory, name):
            raise IrmasError(f"{directory} holds {what}: name another directory")


def directory_name(location: str | os.PathLike[str]) -> str:
    """Return the name of a directory, also of one given as ``.`` or as a URL."""
    return Path(os.path.normpath(storage.absolute(location))).name
