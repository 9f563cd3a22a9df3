"""Windows of a spectrogram that comes piece by piece, given on as soon as they are full."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.features.logmel import LogMel

Offsets = npt.NDArray[np.int64]


def windows_of(
    pieces: Iterable[LogMel], frames: int, hop: int, floor: float, most: int
) -> Iterator[tuple[Offsets, npt.NDArray[Any]]]:
    """Cut a spectrogram into the windows that `covering_windows` lays over it.

    Kept in memory are the frames that a window may still need, and one piece.

    Args:
        pieces: Arrays of shape (bands, frames), one after the other, one frame or more in all.
        frames: Length of a window.
        hop: Frames from one window to the next.
        floor: What stands for silence behind a spectrogram that is shorter than a window.
        most: Windows that are given on together, at most.

    Yields:
        First frame of each window, shape (windows,), and the windows, shape (windows, bands,
        frames); a view that is good until the next are asked for.
    """
    held: npt.NDArray[Any] = np.zeros((0, 0))
    start = following = 0  # first frame that is held, first frame of the next window
    for piece in pieces:
        # The last window ends where the spectrogram does: keep as much as it may need.
        keep = min(following - start, max(held.shape[1] - frames, 0))
        held = np.concatenate([held[:, keep:], piece], axis=1) if held.size else piece
        start += keep
        while (fitting := (start + held.shape[1] - frames - following) // hop + 1) > 0:
            count = min(fitting, most)
            yield _cut(held, following - start, count, start, frames, hop)
            following += count * hop
    length = start + held.shape[1]
    if length < frames:
        silence = np.full((len(held), frames - length), floor, np.float32)
        held, length = np.concatenate([held, silence], axis=1), frames
    if following - hop < length - frames:
        yield _cut(held, length - frames - start, 1, start, frames, hop)


def _cut(
    held: npt.NDArray[Any], first: int, count: int, start: int, frames: int, hop: int
) -> tuple[Offsets, npt.NDArray[Any]]:
    views = np.lib.stride_tricks.sliding_window_view(held[:, first:], frames, axis=1)
    offsets = start + first + hop * np.arange(count)
    return offsets, views[:, : (count - 1) * hop + 1 : hop].transpose(1, 0, 2)
