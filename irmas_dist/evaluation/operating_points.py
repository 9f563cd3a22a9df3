"""Every decision that a threshold can make, and the decisions of given thresholds."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

NEVER = np.nextafter(np.float32(1), np.float32(2))
"""The threshold of an instrument that is never predicted: the smallest float32 above 1."""


class OperatingPoints(NamedTuple):
    """Every way to split a list of scores in two, from nothing to everything predicted.

    Attributes:
        thresholds: float32, shape (points,), falling; the first is `NEVER`.
        true_positives: Shape (points,).
        predicted: Shape (points,).
    """

    thresholds: npt.NDArray[np.float32]
    true_positives: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]


def decide(
    scores: npt.NDArray[np.floating[Any]], thresholds: npt.ArrayLike
) -> npt.NDArray[np.uint8]:
    """Return 1 where an instrument is predicted, shape (clips, instruments).

    Args:
        scores: Shape (clips, instruments), from 0 to 1.
        thresholds: Shape (instruments,), or one number for all.
    """
    return (scores.astype(np.float32) >= np.asarray(thresholds, np.float32)).astype(np.uint8)


def operating_points(
    labels: npt.NDArray[np.integer[Any]], scores: npt.NDArray[np.floating[Any]]
) -> OperatingPoints:
    """Sort once and count the predictions of every threshold.

    A threshold lies midway between a score and the next lower one, or 0.

    Args:
        labels: 0 or 1, none unknown, shape (clips,).
        scores: Shape (clips,), from 0 to 1.
    """
    scores = scores.astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last_of_ties = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)[: len(falling)])
    true_positives = np.cumsum(labels[order], dtype=np.int64)[last_of_ties]
    distinct = falling[last_of_ties]
    lower = np.append(distinct, np.float32(0))[1:]
    middle = ((distinct.astype(np.float64) + lower) / 2).astype(np.float32)
    # The midpoint of two neighbouring float32 may round to the lower one.
    thresholds = np.where(middle > lower, middle, distinct)
    return OperatingPoints(
        thresholds=np.insert(thresholds, 0, NEVER),
        true_positives=np.insert(true_positives, 0, 0),
        predicted=np.insert(last_of_ties + 1, 0, 0),
    )
