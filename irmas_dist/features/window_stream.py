"""Windows of a spectrogram that arrives in pieces, for files of any length."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.features.logmel import LogMel

SHORT = 0.5
"""Share of a window below which a file has little to be scored by."""

SHORT_NOTE = "much shorter than the model's windows: the scores mean little"


def windows_of(
    pieces: Iterable[LogMel], frames: int, hop: int, floor: float, note: Callable[[str], None]
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Cut the windows of `covering_windows`, in `training`, from a spectrogram in pieces.

    In memory are one piece and the frames that a window may still need.

    Args:
        pieces: Consecutive arrays of shape (bands, frames), one frame or more in all.
        frames: Length of a window.
        hop: Frames from one window to the next.
        floor: Value of silence, which pads a spectrogram shorter than a window.
        note: Called with one line if most of the window is padding.

    Yields:
        The first frame of a window, and the window, shape (bands, frames).
    """
    held: npt.NDArray[Any] = np.zeros((0, 0))
    start = following = 0  # first frame in memory, first frame of the next window
    for piece in pieces:
        # The last window ends with the spectrogram: keep as many frames as it may need.
        dropped = min(following - start, max(held.shape[1] - frames, 0))
        held = np.concatenate([held[:, dropped:], piece], axis=1) if held.size else piece
        start += dropped
        while following + frames <= start + held.shape[1]:
            yield following, held[:, following - start : following - start + frames]
            following += hop
    length = start + held.shape[1]
    if length < frames:
        if length < SHORT * frames:
            note(SHORT_NOTE)
        silence = np.full((len(held), frames - length), floor, np.float32)
        yield 0, np.concatenate([held, silence], axis=1)
    elif following - hop < length - frames:
        yield length - frames, held[:, -frames:]
