"""From window scores to clip scores.

A model scores windows of about a second; labels belong to clips of many windows. Write
s(w, i) for the score of instrument i in window w of a clip with W windows. A silent window scores
0 for every instrument, and is none of the W: it names no instrument, and takes nothing from those
of the others. A clip of silent windows alone scores 0. The rules:

``mean``
    S(i) = sum over w of s(w, i) / W. Strategy S1 of Han, Kim and Lee, "Deep convolutional
    neural networks for predominant instrument recognition in polyphonic music",
    arXiv:1605.09507. Keeps the scale of the window scores.
``s2``
    S(i) = sum over w of s(w, i), divided by the largest such sum of the clip, so that the
    surest instrument of every clip scores 1. Strategy S2 of the same paper. Assumes that at
    least one instrument plays; scores are relative to the strongest one, and thresholds of
    about 0.5 are usual.
``han2017``
    As S2, of maxima over time: m(p, i) = max of s(w, i) over the windows 3 p to 3 p + 5, and
    S(i) = sum over p of m(p, i), divided by the largest such sum. The same authors in
    IEEE/ACM Transactions on Audio, Speech, and Language Processing 25 (2017). The paper
    does not state what is done at the end of a clip; here the last maximum is over the remaining
    windows, so that every window is in one. The only rule that depends on the order of windows.
``max``
    S(i) = max over w of s(w, i). For instruments that play in a part of the clip only.
``top3``, or any other number
    S(i) = mean of the 3 largest s(w, i), of all where there are fewer. Between ``max``, which
    is ``top1``, and ``mean``: a single wrong window does not decide. Known from weakly labelled
    sound events as top-k pooling.
``attention``
    S(i) = sum over w of s(w, i)^2 / sum over w of s(w, i): a mean that weights each window
    by its score. The linear softmax of Wang, Li and Metze, "A comparison of five
    multiple instance learning pooling functions for sound event detection with weak
    labeling", ICASSP 2019; learned weights would need more than scores.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.config.decisions import AggregationRule
from irmas_dist.evaluation.arrays import Float64

POOL_WINDOWS = 6
"""Windows of each maximum of ``han2017``."""

POOL_STRIDE = 3
"""Windows from one maximum of ``han2017`` to the next."""

Windows = npt.NDArray[np.floating[Any]]
Offsets = npt.NDArray[np.integer[Any]]


def aggregate(
    window_scores: Windows, offsets: Offsets, rule: AggregationRule
) -> npt.NDArray[np.float32]:
    """Combine the scores of each clip's windows.

    Args:
        window_scores: Shape (windows, instruments), from 0 to 1, all 0 of a silent window, the
            windows of one clip next to each other, in chronological order.
        offsets: Shape (clips + 1,). The windows of clip c are rows ``offsets[c]`` up to but
            not including ``offsets[c + 1]``; the last offset is the number of windows.
        rule: See the module's docstring.

    Returns:
        Clip scores, float32, shape (clips, instruments), from 0 to 1.

    Raises:
        ValueError: A clip has no window, the offsets do not end at the last window, or the rule
            is unknown.
    """
    windows_per_clip = np.diff(offsets)
    if (windows_per_clip < 1).any():
        raise ValueError(f"clip {int((windows_per_clip < 1).argmax())} has no window")
    if offsets[0] != 0 or offsets[-1] != len(window_scores):
        raise ValueError(f"offsets {offsets[0]} to {offsets[-1]} for {len(window_scores)} windows")
    sounding = np.add.reduceat(window_scores.any(axis=1), offsets[:-1], dtype=np.int64)
    counted = np.maximum(sounding, 1)[:, None]
    match rule:
        case "mean":
            result = _sums(window_scores, offsets) / counted
        case "s2":
            result = _relative(_sums(window_scores, offsets))
        case "han2017":
            result = _relative(_sums(*_maxima_over_time(window_scores, offsets)))
        case "max":
            return np.maximum.reduceat(window_scores, offsets[:-1], axis=0).astype(np.float32)
        case "attention":
            scores = window_scores.astype(np.float64)
            sums = _sums(scores, offsets)
            result = _sums(scores * scores, offsets) / np.where(sums > 0, sums, 1.0)
        case _ if rule.startswith("top") and rule[3:].isdecimal() and int(rule[3:]):
            largest = _sum_of_largest(window_scores, offsets, int(rule[3:]))
            result = largest / np.minimum(counted, int(rule[3:]))
        case _:
            raise ValueError(f"no aggregation rule {rule!r}")
    return result.astype(np.float32)


def _sums(window_scores: Windows, offsets: Offsets) -> Float64:
    """Return each clip's sum; in float32 it would depend on the order of the windows."""
    return np.add.reduceat(window_scores, offsets[:-1], axis=0, dtype=np.float64)


def _relative(sums: Float64) -> Float64:
    """Divide each clip's scores by the largest; a clip whose scores are all zero stays at zero."""
    largest = sums.max(axis=1, keepdims=True)
    relative: Float64 = sums / np.where(largest > 0, largest, 1.0)
    return relative


def _maxima_over_time(window_scores: Windows, offsets: Offsets) -> tuple[Windows, Offsets]:
    """Return the maxima of `POOL_WINDOWS` windows every `POOL_STRIDE`, and their offsets."""
    beyond = np.maximum(np.diff(offsets) - POOL_WINDOWS, 0)
    maxima_per_clip = 1 + -(-beyond // POOL_STRIDE)
    pooled_offsets = np.concatenate([[0], np.cumsum(maxima_per_clip)])
    within = np.arange(pooled_offsets[-1]) - np.repeat(pooled_offsets[:-1], maxima_per_clip)
    begins = np.repeat(offsets[:-1], maxima_per_clip) + POOL_STRIDE * within
    ends = np.minimum(begins + POOL_WINDOWS, np.repeat(offsets[1:], maxima_per_clip))
    # Every second segment of reduceat is one of the pools. An end is only a valid index if there
    # is one more row.
    padded = np.concatenate([window_scores, window_scores[-1:]])
    segments = np.stack([begins, ends], axis=1).ravel()
    return np.maximum.reduceat(padded, segments, axis=0)[::2], pooled_offsets


def _sum_of_largest(window_scores: Windows, offsets: Offsets, most: int) -> Float64:
    """Return the sum of each clip's largest scores, instrument by instrument."""
    windows_per_clip = np.diff(offsets)
    clip = np.repeat(np.arange(len(windows_per_clip)), windows_per_clip)
    columns = window_scores.T
    order = np.lexsort((-columns, np.broadcast_to(clip, columns.shape)), axis=-1)
    falling = np.take_along_axis(columns, order, axis=1).T
    rank = np.arange(len(clip)) - offsets[clip]
    largest = np.where(rank[:, None] < most, falling, 0)
    return _sums(largest, offsets)
