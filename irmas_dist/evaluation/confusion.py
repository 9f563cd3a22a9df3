"""Which instrument is confused with which, where a clip may have several.

With one label a clip, a confusion matrix counts what was predicted instead of the truth. With
several, a false positive cannot be attributed to one false negative, but it can be counted
beside it: of the clips in which an instrument was missed, in how many was another wrongly
predicted, and how much more often than in all clips without that other one.
"""

from typing import NamedTuple

import numpy as np

from irmas_dist.evaluation.arrays import Decisions, Float64, Labels, validate


class Confusion(NamedTuple):
    """False positives beside false negatives.

    Attributes:
        missed: Clips in which each instrument was missed, shape (instruments,).
        instead: Share of them in which each other was wrongly predicted, shape (missed,
            predicted); 0 where none was missed.
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
    wrong = ((labels == 0) & (decisions == 1)).astype(np.float64)
    clips_missed = missed.sum(axis=0)
    negatives = np.count_nonzero(labels == 0, axis=0)
    return Confusion(
        missed=clips_missed,
        instead=missed.T @ wrong / np.maximum(clips_missed, 1)[:, None],
        usual=wrong.sum(axis=0) / np.maximum(negatives, 1),
    )
