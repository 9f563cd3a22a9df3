"""What thresholds can be chosen for: figures of many candidate decisions at once.

An objective takes labels, bool, shape (clips, instruments), and candidates, bool, shape
(candidates, clips, instruments), and returns one value for each candidate, higher is better.
Any function of this shape will do; those here are the ones that settings can name.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from irmas_dist.evaluation.arrays import Float64

Booleans = npt.NDArray[np.bool_]
Objective = Callable[[Booleans, Booleans], Float64]


def f_beta(average: Literal["micro", "macro"], beta: float) -> Objective:
    """Return the F-measure (van Rijsbergen, "Information Retrieval", 1979) as an objective.

    F = (1 + beta²) tp / ((1 + beta²) tp + beta² fn + fp), 0 where undefined.

    Args:
        average: Over all instruments together, or the mean over instruments.
        beta: How many times as much recall counts as precision.
    """
    weight = beta**2

    def values(labels: Booleans, candidates: Booleans) -> Float64:
        hits = np.count_nonzero(candidates & labels, axis=1)
        bound = np.count_nonzero(candidates, axis=1) + weight * np.count_nonzero(labels, axis=0)
        if average == "micro":
            hits, bound = hits.sum(axis=1, keepdims=True), bound.sum(axis=1, keepdims=True)
        score: Float64 = (1 + weight) * hits / np.where(bound > 0, bound, 1.0)
        return score.mean(axis=1)

    return values


def subset_accuracy(labels: Booleans, candidates: Booleans) -> Float64:
    """Return the share of clips whose set of instruments is exactly right."""
    share: Float64 = (candidates == labels).all(axis=2).mean(axis=1)
    return share


def cost(missing: float) -> Objective:
    """Return what wrong decisions cost, per clip and negative, as an objective.

    Args:
        missing: What it costs to miss an instrument that plays, where saying one that does
            not play costs 1.
    """

    def values(labels: Booleans, candidates: Booleans) -> Float64:
        wrong = np.count_nonzero(candidates & ~labels, axis=(1, 2))
        missed = np.count_nonzero(labels & ~candidates, axis=(1, 2))
        return -(wrong + missing * missed) / len(labels)

    return values
