"""From window scores to clip scores.

A model scores windows of about a second; labels belong to clips of many windows. Write
s(w, i) for the score of instrument i in window w of a clip with W windows. The rules:

``mean``
    S(i) = sum over w of s(w, i) / W. Strategy S1 of Han, Kim and Lee, "Deep convolutional
    neural networks for predominant instrument recognition in polyphonic music",
    arXiv:1605.09507. Keeps the scale of the window scores.
``s2``
    S(i) = sum over w of s(w, i), divided by the largest such sum of the clip, so that the
    surest instrument of every clip scores 1. Strategy S2 of the same paper. Takes for granted
    that at least one instrument plays; scores say how an instrument compares with the
    strongest one, and thresholds of about 0.5 are usual.
``max``
    S(i) = max over w of s(w, i). For instruments that play for a part of the clip only.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

AggregationRule = Literal["mean", "s2", "max"]


def aggregate(
    window_scores: npt.NDArray[np.floating[Any]],
    offsets: npt.NDArray[np.integer[Any]],
    rule: AggregationRule,
) -> npt.NDArray[np.float32]:
    """Combine the scores of each clip's windows.

    Args:
        window_scores: Shape (windows, instruments), from 0 to 1, the windows of one clip next
            to each other.
        offsets: Shape (clips + 1,). The windows of clip c are rows ``offsets[c]`` up to but
            not including ``offsets[c + 1]``; the last offset is the number of windows.
        rule: How to combine; see the module's docstring.

    Returns:
        Clip scores, float32, shape (clips, instruments), from 0 to 1.

    Raises:
        ValueError: A clip has no window, or the offsets do not end at the last window.
    """
    windows_per_clip = np.diff(offsets)
    if (windows_per_clip < 1).any():
        raise ValueError(f"clip {int((windows_per_clip < 1).argmax())} has no window")
    if offsets[0] != 0 or offsets[-1] != len(window_scores):
        raise ValueError(f"offsets {offsets[0]} to {offsets[-1]} for {len(window_scores)} windows")
    starts = offsets[:-1]
    if rule == "max":
        return np.maximum.reduceat(window_scores, starts, axis=0).astype(np.float32)
    # Summed in float64: in float32 the result would depend on the order of the windows.
    sums = np.add.reduceat(window_scores, starts, axis=0, dtype=np.float64)
    if rule == "mean":
        return (sums / windows_per_clip[:, None]).astype(np.float32)
    largest = sums.max(axis=1, keepdims=True)
    # A clip whose scores are all zero stays at zero.
    return (sums / np.where(largest > 0, largest, 1.0)).astype(np.float32)
