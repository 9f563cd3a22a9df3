"""Calibrated scores, so that those of several models can be averaged.

Platt, "Probabilistic outputs for support vector machines" (1999), with two numbers for all
instruments of a model: the score s becomes sigmoid(scale logit(s) + offset). A score of 0, which is
that of silence, stays 0.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from irmas_dist.evaluation.arrays import Labels, ScoreArray
from irmas_dist.instruments import UNKNOWN

MARGIN = 1e-5
"""Distance from 0 and 1 within which scores count alike."""

MOST_LOGIT = 30.0
"""Limit of calibrated logits: only silence scores 0."""

LEAST_SCALE = 0.01
"""Smallest scale: calibration never turns the order of scores round."""


class Platt(NamedTuple):
    """The two numbers of a calibration."""

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return calibrated scores, of the same shape."""
        logits = np.clip(self.scale * _logit(scores) + self.offset, -MOST_LOGIT, MOST_LOGIT)
        calibrated = np.where(scores > 0, expit(logits), 0)
        return calibrated.astype(np.float32)


def fit_platt(
    labels: Labels, scores: ScoreArray, weights: npt.NDArray[np.float64] | None = None
) -> Platt:
    """Fit a calibration to labelled clips by maximum likelihood.

    As in the paper, clips with and without an instrument count as almost certain rather than
    certain, so that scores that separate them wholly have a finite calibration, too.

    Args:
        labels: Shape (clips, instruments); unknown ones do not count, nor those of silence.
        scores: From 0 to 1, of the same shape.
        weights: How often each clip counts; None: once.
    """
    known = (labels != UNKNOWN) & (scores > 0)
    logits, plays = _logit(scores)[known], labels[known] == 1
    counts = np.ones(len(labels)) if weights is None else weights
    count = np.broadcast_to(counts[:, np.newaxis], labels.shape)[known]
    positives, negatives = count[plays].sum(), count[~plays].sum()
    wanted = np.where(plays, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    inputs = np.stack([logits, np.ones_like(logits)])
    total = count.sum() or 1.0

    def loss(found: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        """Return the mean cross-entropy, and its gradient."""
        calibrated = found @ inputs
        entropy = np.logaddexp(0, calibrated) - wanted * calibrated
        gradient = inputs @ (count * (expit(calibrated) - wanted))
        return count @ entropy / total, gradient / total

    bounds = [(LEAST_SCALE, 1 / LEAST_SCALE), (None, None)]
    best = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12)
    return Platt(*best.x.tolist())


def _logit(scores: ScoreArray) -> npt.NDArray[np.float64]:
    return np.asarray(logit(np.clip(scores.astype(np.float64), MARGIN, 1 - MARGIN)))
