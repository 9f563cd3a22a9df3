"""Metrics of scores that need no thresholds: how well instruments and clips are ranked.

Within a clip, `clip_lrap` and `clip_coverage` measure how its instruments rank among all others;
for an instrument, `average_precision` and `roc_auc` measure how the clips that have it rank among
all clips. Unknown labels have no rank, tied scores share one. Conventions are those of `metrics`,
and the values those of scikit-learn.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from irmas_dist.evaluation.arrays import Float64, Labels, ScoreArray
from irmas_dist.evaluation.bootstrap import Draws
from irmas_dist.instruments import UNKNOWN

BLOCK = 500_000
"""Counts of all draws that are made at a time, 4 MB."""


def clip_lrap(labels: Labels, scores: ScoreArray) -> Float64:
    """Return the label ranking average precision of each clip, shape (clips,), from 0 to 1.

    For each instrument of a clip: the share of positives among the instruments that score at
    least as high; averaged over the clip's instruments (Tsoumakas, Katakis and Vlahavas, "Mining
    multi-label data", 2010, there called average precision). Clips that have no instrument, or
    all of them, cannot be ranked wrongly and count as 1.
    """
    known, plays = labels != UNKNOWN, labels == 1
    rank = np.zeros(labels.shape, dtype=np.int64)
    positives = np.zeros(labels.shape, dtype=np.int64)
    for other in range(labels.shape[1]):
        above = (scores[:, other, None] >= scores) & known[:, other, None]
        rank += above
        positives += above & plays[:, other, None]
    per_clip = plays.sum(axis=1)
    precision = (plays * positives / np.maximum(rank, 1)).sum(axis=1) / np.maximum(per_clip, 1)
    trivial = (per_clip == 0) | (per_clip == known.sum(axis=1))
    return np.where(trivial, 1.0, precision)


def clip_coverage(labels: Labels, scores: ScoreArray) -> npt.NDArray[np.int64]:
    """Return the coverage error of each clip, shape (clips,), in instruments.

    How many instruments from the top of the ranking cover all of the clip's; lower is better, and
    the number of the clip's instruments is the optimum (Schapire and Singer, "BoosTexter", 2000,
    plus 1). A clip that has no instrument counts as 0.
    """
    lowest = np.where(labels == 1, scores, np.inf).min(axis=1, keepdims=True)
    return np.count_nonzero((scores >= lowest) & (labels != UNKNOWN), axis=1)


def average_precision(labels: Labels, scores: ScoreArray, draws: Draws) -> Float64:
    """Return average precision, shape (draws, instruments), from 0 to 1.

    The area under the precision-recall curve as a sum of steps, without interpolation
    (Manning, Raghavan and Schütze, "Introduction to Information Retrieval", section 8.4); 0
    for an instrument that never occurs. Its mean is mAP. Compares scores as float32, as
    `operating_points.decide` does.
    """
    result = np.zeros((len(draws.times), labels.shape[1]))
    for i in np.flatnonzero((labels == 1).any(axis=0)):
        clips = _Ranked.of(labels[:, i], scores[:, i], draws)
        positives = clips.count(clips.positive)
        everything = clips.count(np.ones_like(clips.positive))
        for rows, times in clips.blocks(draws):
            gained = times @ positives
            true_positives = gained.cumsum(axis=1)
            predicted = (times @ everything).cumsum(axis=1)
            area = (gained * true_positives / np.maximum(predicted, 1)).sum(axis=1)
            result[rows, i] = area / np.maximum(true_positives[:, -1], 1)
    return result


def roc_auc(labels: Labels, scores: ScoreArray, draws: Draws) -> Float64:
    """Return the area under the ROC curve, shape (draws, instruments), from 0 to 1.

    The probability that a positive clip scores higher than a negative one, ties counted half
    (Hanley and McNeil, Radiology 143, 1982). 0.5, the value of chance, for an instrument that
    all clips have, or none. Compares scores as float32.
    """
    result = np.full((len(draws.times), labels.shape[1]), 0.5)
    for i in np.flatnonzero((labels == 1).any(axis=0)):
        clips = _Ranked.of(labels[:, i], scores[:, i], draws)
        positives, negatives = clips.count(clips.positive), clips.count(~clips.positive)
        tied = clips.count(~clips.positive & clips.tied)
        negatives_of_songs = np.bincount(clips.song[~clips.positive], minlength=draws.songs)
        for rows, times in clips.blocks(draws):
            gained = times @ positives
            above = (times @ negatives).cumsum(axis=1) - (times @ tied) / 2
            pairs = gained.sum(axis=1) * (times @ negatives_of_songs)
            lost = (gained * above).sum(axis=1)
            result[rows, i] = np.where(pairs > 0, 1 - lost / np.maximum(pairs, 1), 0.5)
    return result


class _Ranked(NamedTuple):
    """The clips of which an instrument is known, by how high they score.

    Attributes:
        song: Index of each clip's song.
        step: How many scores of positive clips are higher than each clip's own; tied ones are one.
        positive: Whether the instrument plays.
        tied: Whether a positive clip has the same score.
        shape: Songs, and different scores of positive clips.
    """

    song: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    positive: npt.NDArray[np.bool_]
    tied: npt.NDArray[np.bool_]
    shape: tuple[int, int]

    @classmethod
    def of(
        cls,
        labels: npt.NDArray[np.integer[Any]],
        scores: npt.NDArray[np.floating[Any]],
        draws: Draws,
    ) -> "_Ranked":
        known = np.flatnonzero(labels != UNKNOWN)
        positive, falling = labels[known] == 1, -scores[known].astype(np.float32)
        # Nothing changes but at the scores of positive clips.
        steps = np.unique(falling[positive])
        step = np.searchsorted(steps, falling)
        tied = steps[np.minimum(step, len(steps) - 1)] == falling
        return cls(draws.song[known], step, positive, tied, (draws.songs, len(steps)))

    def count(self, counted: npt.NDArray[np.bool_]) -> sparse.csr_array:
        """Count clips of each song between a step and the one before, shape (songs, steps)."""
        counted = counted & (self.step < self.shape[1])
        places = self.song[counted], self.step[counted]
        return sparse.csr_array((np.ones(len(places[0])), places), shape=self.shape)

    def blocks(self, draws: Draws) -> Iterator[tuple[slice, Float64]]:
        """Yield some draws at a time, and how often each takes each song, shape (draws, songs)."""
        size = max(BLOCK // self.shape[1], 1)
        for start in range(0, len(draws.times), size):
            rows = slice(start, start + size)
            yield rows, draws.times[rows]
