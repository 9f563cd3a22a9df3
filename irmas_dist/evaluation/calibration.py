"""Calibration: whether 8 of 10 clips with a score of 0.8 have the instrument.

Scores are binned by tenths: a score on an edge belongs to the bin below it, and 0 to the
first. Within a bin, the mean score is compared with the share of clips that have the
instrument. Only clips in which the instrument is known are counted.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from irmas_dist.evaluation.arrays import Float64, Labels, ScoreArray, validate
from irmas_dist.evaluation.bootstrap import Draws
from irmas_dist.instruments import UNKNOWN

BINS = 10
"""Bins of equal width from 0 to 1."""


class Reliability(NamedTuple):
    """The content of each bin, each of shape (BINS, instruments).

    Attributes:
        clips: Number of clips.
        score: Their mean score; 0 where there are none.
        frequency: The share of them that has the instrument; 0 where there are none.
    """

    clips: npt.NDArray[np.int64]
    score: Float64
    frequency: Float64


def reliability(labels: Labels, scores: ScoreArray) -> Reliability:
    """Return the reliability diagram of each instrument.

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, scores)
    inside = (_bins(scores)[None] == np.arange(BINS)[:, None, None]) & (labels != UNKNOWN)
    clips = inside.sum(axis=1)
    some = np.maximum(clips, 1)
    score = (inside * scores.astype(np.float64)).sum(axis=1) / some
    return Reliability(clips, score, (inside & (labels == 1)).sum(axis=1) / some)


def calibration_error(labels: Labels, scores: ScoreArray, draws: Draws) -> Float64:
    """Return the expected calibration error, shape (draws, instruments), from 0 to 1.

    The mean over clips of the distance between mean score and frequency in a clip's bin
    (Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning", AAAI 2015; here of each instrument's binary decision). Lower is better.
    """
    bins, known = _bins(scores), labels != UNKNOWN
    excess = np.where(known, scores.astype(np.float64) - labels, 0.0)
    error = sum(np.abs(draws.sums(np.where(bins == number, excess, 0.0))) for number in range(BINS))
    return np.asarray(error) / np.maximum(draws.sums(known), 1)


def _bins(scores: ScoreArray) -> npt.NDArray[np.int64]:
    """Return the bin of each score, from 0 to ``BINS - 1``."""
    # In float32: as float64, scores of .6 would be above the edge at .6, and those of .7 not.
    edges = np.linspace(0, 1, BINS + 1)[1:-1].astype(np.float32)
    return np.searchsorted(edges, scores.astype(np.float32))
