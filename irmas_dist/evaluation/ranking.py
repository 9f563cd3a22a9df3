"""Metrics of scores that need no thresholds: how well instruments and clips are ranked.

Within a clip, `lrap` and `coverage_error` ask how its instruments rank among all others; for
an instrument, `average_precision` and `roc_auc` ask how the clips that have it rank among all
clips. Tied scores are never told apart. Conventions are those of `metrics`, and the figures
those of scikit-learn.
"""

import numpy as np
import numpy.typing as npt

from irmas_dist.evaluation.arrays import Float64, Labels, ScoreArray, validate
from irmas_dist.evaluation.operating_points import operating_points


def lrap(labels: Labels, scores: ScoreArray) -> float:
    """Return the label ranking average precision, from 0 to 1.

    For each instrument of a clip: of those that score at least as high, the share that is
    right; averaged over the clip's instruments, then over clips (Tsoumakas, Katakis and
    Vlahavas, "Mining multi-label data", 2010, there called average precision). Clips that
    have no instrument, or all of them, cannot be ranked wrongly and count as 1.

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, scores)
    return float(clip_lrap(labels, scores).mean())


def coverage_error(labels: Labels, scores: ScoreArray) -> float:
    """Return how many instruments one must name, from the top, to have named all of a clip's.

    The mean over clips, in instruments; lower is better, and the number of instruments per
    clip is the best there is (Schapire and Singer, "BoosTexter", 2000, plus 1). A clip that
    has no instrument counts as 0.

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, scores)
    return float(clip_coverage(labels, scores).mean())


def average_precision(labels: Labels, scores: ScoreArray) -> Float64:
    """Return the average precision of each instrument, shape (instruments,), from 0 to 1.

    The area under the precision-recall curve as a sum of steps, without interpolation
    (Manning, Raghavan and Schütze, "Introduction to Information Retrieval", section 8.4); 0
    for an instrument that never occurs. The mean of it is mAP. Like `thresholds.decide`, this
    compares scores as float32.

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, scores)
    result = np.zeros(labels.shape[1])
    for instrument in range(labels.shape[1]):
        points = operating_points(labels[:, instrument], scores[:, instrument])
        precision = points.hits[1:] / points.said[1:]
        result[instrument] = np.diff(points.hits) @ precision / max(points.hits[-1], 1)
    return result


def roc_auc(labels: Labels, scores: ScoreArray) -> Float64:
    """Return the area under each instrument's ROC curve, shape (instruments,), from 0 to 1.

    How often a clip that has the instrument scores higher than one that has not, ties counted
    half (Hanley and McNeil, Radiology 143, 1982). 0.5, the value of chance, for an instrument
    that all clips have, or none. Compares scores as float32.

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, scores)
    result = np.full(labels.shape[1], 0.5)
    for instrument in range(labels.shape[1]):
        points = operating_points(labels[:, instrument], scores[:, instrument])
        wrong = points.said - points.hits
        pairs = int(points.hits[-1]) * int(wrong[-1])
        if pairs:
            result[instrument] = np.trapezoid(points.hits, wrong) / pairs
    return result


def clip_lrap(labels: Labels, scores: ScoreArray) -> Float64:
    """Return the label ranking average precision of each clip, shape (clips,)."""
    rank = np.zeros(labels.shape, dtype=np.int64)
    right = np.zeros(labels.shape, dtype=np.int64)
    for other in range(labels.shape[1]):
        above = scores[:, other, None] >= scores
        rank += above
        right += above & (labels[:, other, None] == 1)
    per_clip = labels.sum(axis=1, dtype=np.int64)
    precision = (labels * right / rank).sum(axis=1) / np.maximum(per_clip, 1)
    trivial = (per_clip == 0) | (per_clip == labels.shape[1])
    return np.where(trivial, 1.0, precision)


def clip_coverage(labels: Labels, scores: ScoreArray) -> npt.NDArray[np.int64]:
    """Return how far down each clip's ranking its last instrument stands, shape (clips,)."""
    lowest = np.where(labels == 1, scores, np.inf).min(axis=1, keepdims=True)
    return np.count_nonzero(scores >= lowest, axis=1)
