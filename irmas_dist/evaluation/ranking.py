"""Metrics of scores that need no thresholds: how well instruments and clips are ranked.

Within a clip, `clip_lrap` and `clip_coverage` measure how its instruments rank among all others;
for an instrument, `average_precision` and `roc_auc` measure how the clips that have it rank among
all clips. Unknown labels have no rank, tied scores share one. Conventions are those of `metrics`,
and the values those of scikit-learn.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.evaluation.arrays import Float64, Labels, ScoreArray
from irmas_dist.evaluation.bootstrap import Draws
from irmas_dist.instruments import UNKNOWN


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
        rank, label, among = _known(labels[:, i], scores[:, i], draws)
        # The curve has a step only at the rank of a positive clip.
        steps = np.unique(rank[label == 1])
        step = np.searchsorted(steps, rank)
        predicted = _count(among, step, len(steps) + 1).cumsum(axis=1)[:, :-1]
        true_positives = _count(among, step, len(steps) + 1, label).cumsum(axis=1)[:, :-1]
        true_positives, predicted = draws.times @ true_positives, draws.times @ predicted
        gained = np.diff(true_positives, axis=1, prepend=0)
        area = (gained * true_positives / np.maximum(predicted, 1)).sum(axis=1)
        result[:, i] = area / np.maximum(true_positives[:, -1], 1)
    return result


def roc_auc(labels: Labels, scores: ScoreArray, draws: Draws) -> Float64:
    """Return the area under the ROC curve, shape (draws, instruments), from 0 to 1.

    The probability that a positive clip scores higher than a negative one, ties counted half
    (Hanley and McNeil, Radiology 143, 1982). 0.5, the value of chance, for an instrument that
    all clips have, or none. Compares scores as float32.
    """
    result = np.full((len(draws.times), labels.shape[1]), 0.5)
    for i in np.flatnonzero((labels == 1).any(axis=0)):
        rank, label, among = _known(labels[:, i], scores[:, i], draws)
        positives = _count(among, rank, rank.max() + 1, label)
        negatives = _count(among, rank, rank.max() + 1, label == 0)
        above = negatives.cumsum(axis=1) - negatives / 2
        # Wrongly ranked pairs, of a positive clip of one song and a negative clip of another.
        steps = np.unique(rank[label == 1])
        lost_pairs = positives[:, steps] @ above[:, steps].T
        lost = ((draws.times @ lost_pairs) * draws.times).sum(axis=1)
        pairs = (draws.times @ positives.sum(axis=1)) * (draws.times @ negatives.sum(axis=1))
        result[:, i] = np.where(pairs > 0, 1 - lost / np.maximum(pairs, 1), 0.5)
    return result


def _known(
    labels: npt.NDArray[np.integer[Any]], scores: npt.NDArray[np.floating[Any]], draws: Draws
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.integer[Any]], Draws]:
    """Return rank (0 for the highest; ties share one), label and draws of the known clips."""
    known = labels != UNKNOWN
    rank = np.unique(-scores[known].astype(np.float32), return_inverse=True)[1]
    return rank, labels[known], draws.of(known)


def _count(
    draws: Draws,
    rank: npt.NDArray[np.int64],
    ranks: int,
    counted: npt.NDArray[np.generic] | int = 1,
) -> Float64:
    """Count the clips of each song at each rank, shape (songs, ranks)."""
    weights = np.broadcast_to(counted, rank.shape)
    cells = np.bincount(draws.song * ranks + rank, weights, draws.songs * ranks)
    return cells.reshape(draws.songs, ranks).astype(np.float64, copy=False)
