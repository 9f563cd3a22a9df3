"""Checkpoints of an unfinished training: written atomically, verified, and never executed.

A saved epoch of a training is ``attempt-NNN/epoch-NNNN/checkpoint.pt`` below its progress
directory; a trial of one worker has a single file. An attempt is one start of the workers; each has
its own directory, so that files of a killed attempt cannot collide with those of the next. A file
ends with a digest of its content, by which a truncated or altered file is recognised and passed
over.
"""

import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any

import torch

from irmas_dist import storage
from irmas_dist.errors import IrmasError, StoreError, last_line
from irmas_dist.training.learner import STATE, Learner

CHECKPOINT_FILE = "checkpoint.pt"
_RELATIVE_PATH = re.compile(rf"attempt-(\d+)/epoch-(\d+)/{re.escape(CHECKPOINT_FILE)}")
SAVING_SHARE = 0.02
"""Share of its time that a training may spend on saving, reporting and logging its epochs."""

_DIGEST_BYTES = hashlib.sha256().digest_size


class DamagedError(IrmasError):
    """A checkpoint that is truncated or altered."""


class Pace:
    """Says when to save next, so that saving takes a share of the time.

    On a GPU an epoch may take a tenth of a second: to save, report and log each would take most
    of the time.

    Args:
        share: Of the time, that saving may take.
    """

    def __init__(self, share: float = SAVING_SHARE) -> None:
        self._share = share
        self._ended = time.monotonic()
        self._spent = 0.0

    @property
    def due(self) -> bool:
        """Whether enough time has passed since the last time; at first, it has."""
        return time.monotonic() - self._ended >= self._spent / self._share

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Measure the time that the block takes."""
        began = time.monotonic()
        yield
        self._ended = time.monotonic()
        self._spent = self._ended - began


def snapshot(learner: Learner) -> dict[str, Any]:
    """Return a copy of a Learner's state, which later epochs do not change."""
    # The best weights are replaced rather than changed, and large.
    return {
        name: copy(value) if name in STATE else deepcopy(value)
        for name, value in learner.state_dict().items()
    }


def save_checkpoint(
    directory: str | os.PathLike[str], learner: Learner, state: dict[str, Any] | None = None
) -> None:
    """Write ``checkpoint.pt`` to a path or URL, atomically: all that is needed to resume.

    ``state`` is an earlier one of the Learner; by default its present one is written.
    """
    buffer = io.BytesIO()
    torch.save(learner.state_dict() if state is None else state, buffer)
    content = buffer.getbuffer()
    with storage.write_atomically(storage.join(directory, CHECKPOINT_FILE)) as stream:
        stream.write(content)
        stream.write(hashlib.sha256(content).digest())


def load_checkpoint(directory: str | os.PathLike[str], learner: Learner) -> None:
    """Resume from ``checkpoint.pt``; nothing in the file is executed.

    Raises:
        DamagedError: The file is truncated or altered.
        IrmasError: It is missing, or of another network or optimiser.
    """
    path = storage.join(directory, CHECKPOINT_FILE)
    content = _verified(path)
    state = torch.load(io.BytesIO(content), map_location=learner.device, weights_only=True)
    try:
        learner.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        if not re.search("loading state_dict|state dict", str(error)):
            raise
        raise IrmasError(
            f"{path} is of another network or optimiser than this training: {last_line(error)}; "
            "another version of irmas may have begun it: delete its directory, or choose another"
        ) from error


def newest_checkpoint(location: str, on_damaged: Callable[[str], None]) -> str | None:
    """Return the directory of the latest epoch with an undamaged file, or None.

    Args:
        location: Path or URL of the progress directory.
        on_damaged: Called with one line on each damaged file that is passed over.
    """
    for _, directory in reversed(checkpoints(location)):
        try:
            _verified(storage.join(directory, CHECKPOINT_FILE))
        except StoreError:  # It may be readable again.
            raise
        except IrmasError as error:
            on_damaged(f"{error}; it is passed over")
            continue
        return directory
    return None


def checkpoints(location: str) -> list[tuple[int, str]]:
    """Return epoch and directory of all files, damaged ones included, the latest last."""
    return [(epoch, directory) for epoch, _, directory in sorted(_epochs(location))]


def saved_history(directory: str | os.PathLike[str] | None) -> list[dict[str, float]]:
    """Return the metrics of the epochs before a checkpoint; none without an undamaged one."""
    try:
        content = _verified(storage.join(directory, CHECKPOINT_FILE)) if directory else b""
    except StoreError:
        raise
    except IrmasError:
        content = b""
    if not content:
        return []
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    history: list[dict[str, float]] = state["history"]
    return history


def new_attempt(location: str) -> str:
    """Return an unused name of an attempt."""
    return f"attempt-{max((attempt for _, attempt, _ in _epochs(location)), default=0) + 1:03d}"


def epoch_directory(location: str, attempt: str, epoch: int) -> str:
    """Return the directory of an epoch's ``checkpoint.pt``."""
    return storage.join(location, attempt, f"epoch-{epoch:04d}")


def _epochs(location: str) -> list[tuple[int, int, str]]:
    """Return epoch, attempt and directory of all files, damaged ones included."""
    return [
        (int(match[2]), int(match[1]), storage.join(location, path.rpartition("/")[0]))
        for path in storage.list_files(location, recursive=True)
        if (match := _RELATIVE_PATH.fullmatch(path))
    ]


def _verified(path: str) -> memoryview:
    """Return the content of a file without its digest."""
    whole = memoryview(storage.read_bytes(path))
    content, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise DamagedError(
            f"{path} is damaged: {len(whole):,} bytes that do not match their digest"
        )
    return content
