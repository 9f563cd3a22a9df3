"""Which instrument is confused with which, where a clip may have several.

With one label a clip, a confusion matrix counts what was predicted instead of the truth. With
several, a false positive cannot be attributed to one false negative, but it can be counted
beside it: of the clips without another instrument in which one was missed, in how many was the
other wrongly predicted, and how much more often than in all clips without it. Clips of which it is
unknown whether the other plays do not count.
"""

from typing import NamedTuple

import numpy as np

from irmas_dist.evaluation.arrays import Decisions, Float64, Labels, validate


class Confusion(NamedTuple):
    """False positives beside false negatives.

    Attributes:
        missed: Clips in which each instrument was missed, shape (instruments,).
        instead: Of the clips where the row's instrument was missed and the column's is absent, the
            share in which the column's was predicted, shape (missed, predicted); 0 without any.
        usual: Share of the clips without an instrument for which it is predicted, shape
            (predicted,).
    """

    missed: Float64
    instead: Float64
    usual: Float64


def confusion(labels: Labels, decisions: Decisions) -> Confusion:
    """Count errors that occur together.

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, decisions)
    missed = ((labels == 1) & (decisions == 0)).astype(np.float64)
    absent = (labels == 0).astype(np.float64)
    wrong = absent * (decisions == 1)
    return Confusion(
        missed=missed.sum(axis=0),
        instead=missed.T @ wrong / np.maximum(missed.T @ absent, 1),
        usual=wrong.sum(axis=0) / np.maximum(absent.sum(axis=0), 1),
    )
