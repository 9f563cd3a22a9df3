"""Objectives of thresholds: a figure of many candidate decisions at once.

An objective takes labels, bool, shape (clips, instruments), and candidates, bool, shape
(candidates, clips, instruments), and returns one value for each candidate, higher is better.
Where a label is unknown, both are False.
Any function of this shape will do; `objective_of` returns those that settings can name.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.arrays import Booleans, Float64
from irmas_dist.evaluation.metrics import f_measure

Objective = Callable[[Booleans, Booleans], Float64]
Average = Literal["micro", "macro"]
"""Over all instruments together, or the mean over instruments."""


def objective_of(settings: ThresholdSettings) -> Objective:
    """Return the objective that settings name."""
    match settings.objective:
        case "cost":
            return cost(settings.cost_of_missing)
        case "subset_accuracy":
            return subset_accuracy
        case name:
            average: Average = "micro" if name.startswith("micro") else "macro"
            return f_beta(average, {"1": 1.0, "2": 2.0, "05": 0.5}[name.partition("_f")[2]])


def f_beta(average: Average, beta: float) -> Objective:
    """Return `metrics.f_measure` as an objective."""

    def values(labels: Booleans, candidates: Booleans) -> Float64:
        true_positives, predicted, positives = (
            np.count_nonzero(decisions, axis=-2)
            for decisions in (candidates & labels, candidates, labels)
        )
        if average == "micro":
            true_positives, predicted, positives = (
                counts.sum(axis=-1, keepdims=True)
                for counts in (true_positives, predicted, positives)
            )
        return f_measure(true_positives, predicted, positives, beta).mean(axis=1)

    return values


def subset_accuracy(labels: Booleans, candidates: Booleans) -> Float64:
    """Return the share of clips whose set of instruments is exactly right."""
    share: Float64 = (candidates == labels).all(axis=2).mean(axis=1)
    return share


def cost(missing: float) -> Objective:
    """Return as an objective the negative cost of wrong decisions per clip.

    A false negative costs ``missing``, a false positive 1.
    """

    def values(labels: Booleans, candidates: Booleans) -> Float64:
        wrong = np.count_nonzero(candidates & ~labels, axis=(1, 2))
        missed = np.count_nonzero(labels & ~candidates, axis=(1, 2))
        return -(wrong + missing * missed) / len(labels)

    return values
