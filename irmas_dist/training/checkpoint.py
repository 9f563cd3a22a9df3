"""What an unfinished training keeps, so that it can go on: whole, checked, and nothing executed.

Every epoch leaves ``attempt-NNN/epoch-NNNN/optimizer.pt`` below the directory of progress. An
attempt is one start of the workers; each has its own directory, so that what an attempt left
behind when it was killed cannot stand in the next one's way. A file ends in a digest of
itself: one that is cut short or altered is told from a whole one, and passed over.
"""

import hashlib
import io
import os
import re
from collections.abc import Callable

import torch

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.training.learner import Learner

FILE_NAME = "optimizer.pt"
_PLACE = re.compile(rf"attempt-(\d+)/epoch-(\d+)/{re.escape(FILE_NAME)}")
_DIGEST_BYTES = hashlib.sha256().digest_size


def save_progress(directory: str | os.PathLike[str], learner: Learner) -> None:
    """Write ``optimizer.pt``, all that is needed to resume: beside first, then renamed.

    Args:
        directory: Path or URL.
        learner: What is to be resumed.
    """
    buffer = io.BytesIO()
    torch.save(learner.state_dict(), buffer)
    content = buffer.getbuffer()
    with storage.write_atomically(storage.join(directory, FILE_NAME)) as stream:
        stream.write(content)
        stream.write(hashlib.sha256(content).digest())


def load_progress(directory: str | os.PathLike[str], learner: Learner) -> None:
    """Resume from ``optimizer.pt``; nothing in the file is executed.

    Raises:
        IrmasError: The file is missing, cut short or altered.
    """
    content = _checked(storage.join(directory, FILE_NAME))
    state = torch.load(io.BytesIO(content), map_location=learner.device, weights_only=True)
    learner.load_state_dict(state)


def newest_progress(location: str, refused: Callable[[str], None]) -> str | None:
    """Return the directory of the latest epoch whose file is whole, or None when there is none.

    Args:
        location: Path or URL of the directory of progress.
        refused: Called with one line on each damaged file that is passed over.
    """
    for _, _, directory in sorted(_epochs(location), reverse=True):
        try:
            _checked(storage.join(directory, FILE_NAME))
        except IrmasError as error:
            refused(f"{error}; going on from the epoch before it")
            continue
        return directory
    return None


def new_attempt(location: str) -> str:
    """Return the name of an attempt that has not been."""
    return f"attempt-{max((attempt for _, attempt, _ in _epochs(location)), default=0) + 1:03d}"


def epoch_directory(location: str, attempt: str, epoch: int) -> str:
    """Return the directory of an epoch's ``optimizer.pt``."""
    return storage.join(location, attempt, f"epoch-{epoch:04d}")


def _epochs(location: str) -> list[tuple[int, int, str]]:
    """Epoch, attempt and directory of all files of progress, damaged ones among them."""
    found = []
    for path in storage.list_files(location, recursive=True):
        if match := _PLACE.fullmatch(path):
            attempt, epoch = map(int, match.groups())
            found.append(
                (epoch, attempt, storage.join(location, path.removesuffix(f"/{FILE_NAME}")))
            )
    return found


def _checked(place: str) -> memoryview:
    """The content of a file of progress without the digest, which it agrees with."""
    whole = memoryview(storage.read_bytes(place))
    content, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise IrmasError(f"{place} is damaged: {len(whole):,} bytes that do not match their digest")
    return content
