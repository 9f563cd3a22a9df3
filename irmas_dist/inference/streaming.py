"""Windows of a spectrogram that comes piece by piece, given on as soon as they are full."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.features.logmel import LogMel


def windows_of(
    pieces: Iterable[LogMel], frames: int, hop: int, floor: float
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Cut a spectrogram into the windows that `covering_windows` lays over it.

    Kept in memory are the frames that a window may still need, and one piece.

    Args:
        pieces: Arrays of shape (bands, frames), one after the other, one frame or more in all.
        frames: Length of a window.
        hop: Frames from one window to the next.
        floor: What stands for silence behind a spectrogram that is shorter than a window.

    Yields:
        The first frame of a window, and the window, shape (bands, frames).
    """
    held: npt.NDArray[Any] = np.zeros((0, 0))
    start = following = 0  # first frame that is held, first frame of the next window
    for piece in pieces:
        # The last window ends where the spectrogram does: keep as much as it may need.
        keep = min(following - start, max(held.shape[1] - frames, 0))
        held = np.concatenate([held[:, keep:], piece], axis=1) if held.size else piece
        start += keep
        while following + frames <= start + held.shape[1]:
            yield following, held[:, following - start : following - start + frames]
            following += hop
    length = start + held.shape[1]
    if length < frames:
        silence = np.full((len(held), frames - length), floor, np.float32)
        yield 0, np.concatenate([held, silence], axis=1)
    elif following - hop < length - frames:
        yield length - frames, held[:, -frames:]
